// What every backend has to do, as tests: the cases are src/testing, which users get too. The seed of the random ones
// is that of the run (CAIRN_SEED).

import { describe, test } from 'vitest';
import { type BackendHarness, backendCases } from '../../src/testing/index.ts';
import { Random } from '../support/random.ts';

export function describeBackend(name: string, harness: BackendHarness): void {
  describe(`${name} as a backend`, () => {
    for (const { name: sentence, run } of backendCases(harness, new Random().seed)) test(sentence, run);
  });
}
