// Every fuzz target under libFuzzer for a short while (CAIRN_FUZZ_SECONDS each, default 10). What a target found in
// earlier runs is kept in native/build-fuzz/corpus and begun from; the inputs in test/native/fuzz/corpus come first.
// Without clang the targets run by themselves on random inputs, which finds less, and the step counts as skipped.

import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { asanEnvironment, fuzzCorpus, fuzzPrograms, runSanitized } from '../lib/native-run.mjs';
import { inPairs, runAside } from '../lib/pairs.mjs';
import { findProgram } from '../lib/project.mjs';
import { seedTests } from '../lib/seed.mjs';
import { buildNativeTests } from '../lib/steps.mjs';

export const title = 'fuzzing';

export async function check() {
  if (fuzzPrograms().length === 0) return 'there is no fuzz target yet';
  const trial =
    findProgram('clang++') &&
    spawnSync('clang++', ['-fsanitize=fuzzer', '-x', 'c++', '-', '-o', '/dev/null'], {
      input: 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }',
    });
  if (trial?.status !== 0) {
    const programs = fuzzPrograms().map(([program, name]) => [program, '-runs=2000', ...fuzzCorpus(name)]);
    await runSanitized('build-asan', 'address,undefined', asanEnvironment, programs);
    return 'random inputs only: clang with libFuzzer is missing (apt-get install clang libclang-rt-14-dev)';
  }
  const options = ['-DFUZZ=ON', '-DSANITIZE=address,undefined', '-DPRECOMPILE=ON', '-DCMAKE_CXX_COMPILER=clang++'];
  const out = buildNativeTests('build-fuzz', options);
  const seconds = process.env.CAIRN_FUZZ_SECONDS ?? '10';
  const seed = seedTests();
  const fuzz = async ([program, name]) => {
    const found = join(out, 'corpus', name);
    mkdirSync(found, { recursive: true });
    const limits = [
      `-max_total_time=${seconds}`,
      '-timeout=20',
      '-rss_limit_mb=4096',
      '-print_final_stats=1',
      `-seed=${seed}`,
    ];
    const output = await runAside(join(out, program), [...limits, found, ...fuzzCorpus(name)], { cwd: out });
    const [, count = '?'] = /number_of_executed_units: (\d+)/.exec(output) ?? [];
    console.log(`${program}: ${count} inputs in ${seconds} s, seed ${seed}`);
  };
  await inPairs(fuzzPrograms().map((program) => () => fuzz(program)));
  return undefined;
}
