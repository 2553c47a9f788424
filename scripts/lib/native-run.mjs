// Building and running the native test programs under a sanitizer.

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { BuildError, root, run } from './project.mjs';
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
 * Builds `programs`, each with its arguments, in native/`folder` with `sanitize`, warnings being errors, and runs them
 * with `env`: all of them, also after one has failed.
 */
export function runSanitized(folder, sanitize, env, programs) {
  const options = [`-DSANITIZE=${sanitize}`, '-DWERROR=ON'];
  const out = buildNativeTests(
    folder,
    options,
    programs.map(([program]) => program),
  );
  const failed = [];
  for (const [program, ...args] of programs) {
    const start = performance.now();
    try {
      run(join(out, program), args, { cwd: out, env: { ...process.env, ...env }, timeout: 1_800_000 });
    } catch (error) {
      failed.push(error.message);
    }
    console.log(`${program}: ${((performance.now() - start) / 1000).toFixed(1)} s`);
  }
  if (failed.length > 0) throw new BuildError(failed.join('\n'));
}

/** What AddressSanitizer and UndefinedBehaviorSanitizer are told: to report everything, and to stop at it. */
export const asanEnvironment = {
  ASAN_OPTIONS: 'detect_stack_use_after_return=1:strict_string_checks=1',
  UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1',
};
