// The code of a document, run as a reader would run it: pasted into a folder in which the package is installed.
//
// A fenced block is run if its language is `js` or `ts` (types are taken out of it by the few rules of plainScript()).
// A block whose first line is a comment with a file name, `// worker.js`, is written to that file; other blocks of the
// same document may use it. What a block prints is compared with what it says: each `console.log(...)` that ends in a
// comment has to print the text of that comment.

import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** A fenced block of a document. */
export interface Snippet {
  readonly language: string;
  readonly code: string;
  /** The line of the document at which its code begins. */
  readonly line: number;
  /** The file that its first line names. */
  readonly file: string | undefined;
  /** The name in `<!-- test: name -->` above it. */
  readonly mark: string | undefined;
}

/** All fenced blocks of a document, whose path counts from the root. */
export function snippetsOf(path: string): Snippet[] {
  const text = readFileSync(join(root, path), 'utf8');
  const blocks = text.matchAll(/(?:<!-- test: ([\w-]+) -->\n)?^```(\w*)\n(.*?)^```$/gms);
  return [...blocks].map((match) => {
    const [whole, mark, language = '', code = ''] = match;
    const before = text.slice(0, match.index + whole.indexOf('```')).split('\n').length;
    return {
      language,
      code,
      line: before + 1,
      file: /^(?:\/\/|#) ([\w.-]+\.\w+)$/m.exec(code.split('\n')[0]!)?.[1],
      mark,
    };
  });
}

/** The block with that mark; there has to be one. */
export function markedSnippet(path: string, mark: string): Snippet {
  const found = snippetsOf(path).find((each) => each.mark === mark);
  if (found === undefined) throw new Error(`${path} has no snippet marked "test: ${mark}"`);
  return found;
}

/** The block without the types that documents write: arguments of `new Cache` and its static methods. */
export function plainScript(code: string): string {
  return code.replaceAll(/\b(new Cache|Cache\.open|Cache\.attach)<[^()]*?>\(/g, '$1(');
}

/** What the block says that it prints, a line for each `console.log` with a comment; `undefined` for one without. */
export function promisedOutput(code: string): (string | undefined)[] {
  return code
    .split('\n')
    .filter((line) => /^[^/]*\bconsole\.log\(/.test(line))
    .map((line) => /;\s+\/\/ (.*)$/.exec(line)?.[1]);
}

/** A new folder in which `import 'cairn-cache'` and `require('cairn-cache')` give what is built in dist/. */
export function installedFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'cairn-snippets-'));
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(root, join(folder, 'node_modules', 'cairn-cache'), 'junction');
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }\n');
  return folder;
}

/** What running a file has come to. */
export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Writes the code to a file of the folder. */
export function paste(folder: string, name: string, code: string): string {
  const file = join(folder, basename(name));
  writeFileSync(file, plainScript(code));
  return file;
}

/** Runs a program in the folder until it ends by itself. */
export function runIn(
  folder: string,
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<Outcome> {
  const options = {
    cwd: folder,
    encoding: 'utf8',
    timeout: 120_000,
    env: { ...process.env, NODE_OPTIONS: '', ...env },
  } as const;
  return new Promise((resolve) => {
    execFile(program, args, options, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : -1, stdout, stderr });
    });
  });
}
