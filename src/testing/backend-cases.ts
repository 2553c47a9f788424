/**
 * What every backend has to do: the words of backend/backend.ts as cases, for any test runner.
 *
 * ```ts
 * import { backendCases } from 'cairn-cache/testing';
 * for (const { name, run } of backendCases(harness)) test(name, run);
 * ```
 *
 * Each case works on an empty database, of which no other test makes use at that time.
 */

import type { CaseText } from './case.ts';
import { counterCases, counterLetterCases } from './counter-cases.ts';
import { cursorCases } from './cursor-cases.ts';
import { cutCases } from './cut-cases.ts';
import { deadLetterCases } from './dead-letter-cases.ts';
import { endCases } from './end-cases.ts';
import { type BackendHarness, Subject } from './harness.ts';
import { laneCases } from './lane-cases.ts';
import { randomCases } from './random-cases.ts';
import { rowCases } from './row-cases.ts';
import { sweepCases, sweptLetterCases } from './sweep-cases.ts';

export type { BackendHarness } from './harness.ts';

export interface BackendCase {
  readonly name: string;
  run(): Promise<void>;
}

/**
 * The cases for a backend of the harness's level. `seed`: of those that draw their operations at random; a failure
 * names it. Cases that need `refuse`, `sweeps` or `makeCuttable` are there only if the harness has it.
 */
export function backendCases(
  harness: BackendHarness,
  seed: number = Math.floor(Math.random() * 2 ** 32),
): BackendCase[] {
  const texts = [
    ...cursorCases,
    ...laneCases,
    ...rowCases,
    ...randomCases,
    ...counterCases,
    ...endCases,
    ...(harness.refuse === undefined ? [] : [...deadLetterCases, ...counterLetterCases]),
    ...(harness.sweeps ? sweepCases : []),
    ...(harness.sweeps && harness.refuse !== undefined ? sweptLetterCases : []),
    ...(harness.makeCuttable === undefined ? [] : cutCases),
  ];
  const { level = 'transactional' } = harness;
  const ofLevel = texts.filter((text) => text.level === undefined || text.level === level);
  return ofLevel.map(({ name, body }) => ({ name, run: () => runCase(harness, seed, body) }));
}

async function runCase(harness: BackendHarness, seed: number, body: CaseText['body']): Promise<void> {
  const subjects: Subject[] = [];
  await harness.reset();
  try {
    await body({
      harness,
      seed,
      open: async (lane, laneCount) => {
        const subject = new Subject((clock) => harness.make(clock), lane, laneCount);
        subjects.push(subject);
        await subject.backend.open();
        return subject;
      },
    });
  } finally {
    for (const { backend } of subjects) await backend.close();
  }
}
