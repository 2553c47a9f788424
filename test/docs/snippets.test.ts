// Every block of JavaScript in these documents runs as a reader would run it, and prints what its comments say.
import { rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { installedFolder, type Outcome, paste, promisedOutput, runIn, snippetsOf } from '../support/snippets.ts';

const documents = ['guide', 'coming-from', 'processes', 'testing', 'recipes', 'faq', 'running'];
const modules = fileURLToPath(new URL('../../node_modules', import.meta.url));

describe.each(documents)('docs/%s.md', (name) => {
  const path = `docs/${name}.md`;
  const snippets = snippetsOf(path).filter(({ language }) => language === 'js' || language === 'ts');
  let folder: string;
  beforeAll(() => {
    folder = installedFolder();
    for (const each of ['vitest', 'vite'])
      symlinkSync(join(modules, each), join(folder, 'node_modules', each), 'junction');
    for (const { file, code } of snippets) if (file !== undefined) paste(folder, file, code);
  });
  afterAll(() => rmSync(folder, { recursive: true, maxRetries: 5 }));

  test('has code that is run', () => expect(snippets.length).toBeGreaterThan(0));

  for (const { code, file, line } of snippets) {
    if (file?.endsWith('.test.js')) {
      test(`line ${line}: ${file} passes in Vitest`, async () => {
        const vitest = join(modules, 'vitest', 'vitest.mjs');
        const outcome = await runIn(folder, process.execPath, [vitest, 'run', '--root', folder, file], {
          VITEST: undefined,
          VITEST_POOL_ID: undefined,
          VITEST_WORKER_ID: undefined,
        });
        expect(outcome, outcome.stdout + outcome.stderr).toMatchObject({ code: 0 });
      });
      continue;
    }
    // What only another block uses is run by that one.
    if (file !== undefined && snippets.some((other) => other.code !== code && other.code.includes(file))) continue;

    test(`line ${line} runs and prints what it says`, async () => {
      const lines = promisedOutput(code);
      expect(lines, 'a console.log without a comment').not.toContain(undefined);
      const script = paste(folder, file ?? `line-${line}.js`, code);
      const stdout = lines.map((text) => `${text}\n`).join('');
      expect(await runIn(folder, process.execPath, [script])).toEqual({
        code: 0,
        stdout,
        stderr: '',
      } satisfies Outcome);
    });
  }
});
