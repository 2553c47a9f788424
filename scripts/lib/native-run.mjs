// Building and running the native test programs under a sanitizer.

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { inPairs, runAside } from './pairs.mjs';
import { root } from './project.mjs';
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

/** What divides the native tests among processes, for inPairs(): more than two parts, which end together. */
export const nativeTestParts = Array.from({ length: 12 }, (_, i) => `--part=${i + 1}/12`);

/**
 * Builds `programs`, each with its arguments, in native/`folder` with `sanitize`, warnings being errors, and runs them
 * with `env`, two at a time: all of them, also after one has failed. What each prints comes when it has ended.
 */
export async function runSanitized(folder, sanitize, env, programs) {
  const options = [`-DSANITIZE=${sanitize}`, '-DWERROR=ON', '-DPRECOMPILE=ON'];
  const names = new Set(programs.map(([program]) => program));
  const out = buildNativeTests(folder, options, [...names]);
  const run = async ([program, ...args]) => {
    const start = performance.now();
    const output = await runAside(join(out, program), args, { cwd: out, env: { ...process.env, ...env } });
    process.stdout.write(output);
    console.log(`${[program, ...args].join(' ')}: ${((performance.now() - start) / 1000).toFixed(1)} s`);
  };
  await inPairs(programs.map((program) => () => run(program)));
}

/** What AddressSanitizer and UndefinedBehaviorSanitizer are told: to report everything, and to stop at it. */
export const asanEnvironment = {
  ASAN_OPTIONS: 'detect_stack_use_after_return=1:strict_string_checks=1',
  UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1',
};
