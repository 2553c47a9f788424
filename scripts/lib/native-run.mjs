// Building and running the native test programs under a sanitizer.

import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { BuildError, root } from './project.mjs';
import { buildNativeTests } from './steps.mjs';

const stems = (folder) =>
  existsSync(join(root, folder))
    ? readdirSync(join(root, folder))
        .filter((name) => name.endsWith('.cc'))
        .map((name) => name.slice(0, -'.cc'.length))
        .sort()
    : [];

/** The names of the model runs: programs with a main() of their own, a file each. */
export const modelPrograms = () => stems('test/native/programs');

/** The fuzz targets as [program, name]: record_fuzz.cc and fuzz_record.cc both make fuzz_record. */
export const fuzzPrograms = () =>
  stems('test/native/fuzz')
    .map((stem) => stem.replace(/^fuzz_|_fuzz$/g, ''))
    .map((name) => [`fuzz_${name}`, name]);

/** Inputs kept for a fuzz target, to begin from. */
export function fuzzCorpus(name) {
  const folder = join(root, 'test', 'native', 'fuzz', 'corpus', name);
  return existsSync(folder) ? [folder] : [];
}

/**
 * Runs a program with its arguments in `folder`. Resolves with the reason why it failed, or undefined. A run that takes
 * longer than half an hour is ended.
 */
function runProgram(folder, env, [program, ...args]) {
  const start = performance.now();
  const child = spawn(join(folder, program), args, {
    cwd: folder,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'inherit', 'inherit'],
    timeout: 1_800_000,
    killSignal: 'SIGKILL',
  });
  const name = [program, ...args].join(' ');
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      console.log(`${name}: ${((performance.now() - start) / 1000).toFixed(1)} s`);
      resolve(code === 0 ? undefined : `${name}: ${signal === null ? `exit code ${code}` : `ended by ${signal}`}`);
    });
  });
}

/** native_tests in two parts, as most tests have one thread. */
export const nativeTestParts = [
  ['native_tests', '--part=1/2'],
  ['native_tests', '--part=2/2'],
];

/**
 * Builds `programs`, each with its arguments, in native/`folder` with `sanitize`, warnings being errors, and runs them
 * with `env`, two at a time: all of them, also after one has failed.
 */
export async function runSanitized(folder, sanitize, env, programs) {
  const options = [`-DSANITIZE=${sanitize}`, '-DWERROR=ON'];
  const names = new Set(programs.map(([program]) => program));
  const out = buildNativeTests(folder, options, [...names]);
  const waiting = [...programs];
  const failed = [];
  const runNext = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const reason = await runProgram(out, env, next);
      if (reason !== undefined) failed.push(reason);
    }
  };
  await Promise.all([runNext(), runNext()]);
  if (failed.length > 0) throw new BuildError(failed.join('\n'));
}

/** What AddressSanitizer and UndefinedBehaviorSanitizer are told: to report everything, and to stop at it. */
export const asanEnvironment = {
  ASAN_OPTIONS: 'detect_stack_use_after_return=1:strict_string_checks=1',
  UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1',
};
