// Building and running the native test programs under a sanitizer.

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { root, run } from './project.mjs';
import { buildNativeTests } from './steps.mjs';

const stems = (folder) =>
  existsSync(join(root, folder))
    ? readdirSync(join(root, folder))
        .filter((name) => name.endsWith('.cc'))
        .map((name) => name.slice(0, -'.cc'.length))
        .sort()
    : [];

/** The names of the model runs: programs with a main() of their own, a file each. */
export const modelPrograms = () => stems('test/native/model');

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

/** Builds everything in native/`folder` with `sanitize`, warnings being errors, and runs it with `env`. */
export function runSanitized(folder, sanitize, env) {
  const out = buildNativeTests(folder, [`-DSANITIZE=${sanitize}`, '-DWERROR=ON']);
  const options = { cwd: out, env: { ...process.env, ...env } };
  run(join(out, 'native_tests'), [], options);
  for (const program of modelPrograms()) run(join(out, program), [], options);
  for (const [program, name] of fuzzPrograms()) {
    run(join(out, program), ['-runs=2000', ...fuzzCorpus(name)], options);
  }
}
