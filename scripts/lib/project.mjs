// Where things are, and what every script needs. Nothing here needs an installed package.

import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BuildError, run as runIn } from '../../native/build.mjs';

export { BuildError, findProgram, npm } from '../../native/build.mjs';

export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** Runs a command in the project's folder; see native/build.mjs. */
export const run = (command, args, options = {}) => runIn(command, args, { cwd: root, ...options });

/** Runs the script of an installed package with this Node: `bin('vitest', 'vitest.mjs', ['run'])`. */
export const bin = (name, script, args, options) =>
  run(process.execPath, [join(root, 'node_modules', name, script), ...args], options);

/** Throws unless this Node is one that package.json's engines allow. */
export function checkNode(version = process.versions.node) {
  const { engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const [major, minor] = version.split('.').map(Number);
  const fits = engines.node.split('||').some((range) => {
    const [, kind, low, lowMinor] = /^\s*(\^|>=)(\d+)\.(\d+)/.exec(range);
    const later = major > Number(low) && kind === '>=';
    return later || (major === Number(low) && minor >= Number(lowMinor));
  });
  if (!fits) throw new BuildError(`Node ${version} is too old: Cairn needs Node ${engines.node}`);
}

/** Runs `body`; what it throws for the user to read is printed without a stack, and the process exits with 1. */
export async function main(body) {
  try {
    await body();
  } catch (error) {
    if (!(error instanceof BuildError)) throw error;
    console.error(error.message);
    process.exitCode = 1;
  }
}
