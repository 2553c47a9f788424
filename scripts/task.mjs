// `npm start`, `npm test`, `npm run build|bench|lint|format|typecheck`: first whatever a fresh clone lacks, then the
// task, with the arguments given behind `--`.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { format, lint } from './lib/format.mjs';
import { BuildError, bin, main, root } from './lib/project.mjs';
import { seedTests } from './lib/seed.mjs';
import { startArguments } from './lib/start.mjs';
import { ensureBuilt, ensurePackages } from './lib/steps.mjs';

const [task, ...args] = process.argv.slice(2);

/** Runs a script of ours in this process: signals, exit code and terminal are then its own. */
async function become(script, scriptArgs) {
  const file = join(root, script);
  if (!existsSync(file)) throw new BuildError(`${script} is missing`);
  process.argv.splice(1, Number.POSITIVE_INFINITY, file, ...scriptArgs);
  await import(pathToFileURL(file).href);
}

const tasks = {
  async start() {
    ensureBuilt();
    await become('dist/cli/main.js', ['serve', ...startArguments(args)]);
  },
  async test() {
    ensureBuilt();
    const { runTests } = await import('./lib/tests.mjs');
    seedTests();
    process.exitCode = runTests(args) ? 0 : 1;
  },
  build: () => ensureBuilt(),
  async bench() {
    ensureBuilt();
    await become('bench/main.mjs', args);
  },
  lint() {
    ensurePackages();
    lint(args);
  },
  format() {
    ensurePackages();
    format(args);
  },
  typecheck() {
    ensurePackages();
    bin('typescript', 'bin/tsc', ['-p', 'tsconfig.json']);
  },
};

await main(async () => {
  if (!Object.hasOwn(tasks, task))
    throw new BuildError(`Expected one of ${Object.keys(tasks).join(', ')}, got "${task}"`);
  await tasks[task]();
});
