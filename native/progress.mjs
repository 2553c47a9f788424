// Runs a build, `node progress.mjs PROGRAM ARG...`, and says on standard error how far it has come. The build's own
// output goes to standard output, for the caller to show if it fails. This is a separate program because its caller
// waits for it synchronously.

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** How often a line is printed where there is no terminal to draw on. */
const PLAIN_LINE_MS = 5_000;

/**
 * Makes "12 of 52 files" of the lines of Ninja, make or MSBuild, which name each file that they compile. `total`: how
 * many there are, where the program does not say; fewer may have changed.
 */
export class BuildProgress {
  #total;
  #built = 0;

  constructor(total) {
    this.#total = total;
  }

  /** The progress after this line; undefined: it says nothing of it. */
  read(line) {
    const ninja = /^\[(\d+)\/(\d+)\] /.exec(line);
    if (ninja !== null) return `${ninja[1]} of ${ninja[2]} files built`;
    if (!/\bBuilding CXX object\b/.test(line) && !/^\s+\w+\.cc$/.test(line)) return undefined;
    this.#built++;
    return `${this.#built} of at most ${Math.max(this.#total, this.#built)} files built`;
  }
}

/** Files that the addon is made of. */
function sourceCount() {
  const { variables } = JSON.parse(readFileSync(new URL('sources.gypi', import.meta.url), 'utf8'));
  return variables.cairn_core_sources.length + variables.cairn_addon_sources.length;
}

function runBuild([program, ...args]) {
  const terminal = process.stderr.isTTY;
  const progress = new BuildProgress(sourceCount());
  let rest = '';
  let saidAt = Date.now();
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  child.stdout.setEncoding('utf8').on('data', (text) => {
    process.stdout.write(text);
    const lines = (rest + text).split(/[\r\n]+/);
    rest = lines.pop() ?? '';
    for (const said of lines.map((line) => progress.read(line)).filter((each) => each !== undefined)) {
      if (terminal) {
        process.stderr.write(`\r> ${said}\x1b[K`);
      } else if (Date.now() - saidAt >= PLAIN_LINE_MS) {
        saidAt = Date.now();
        process.stderr.write(`> ${said}\n`);
      }
    }
  });
  child.on('error', (error) => {
    console.log(error.message);
    process.exitCode = 1;
  });
  child.on('close', (code) => {
    if (terminal) process.stderr.write('\r\x1b[K');
    process.exitCode = code ?? 1;
  });
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  runBuild(process.argv.slice(2));
}
