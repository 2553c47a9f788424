// Seeded random numbers for tests. Each random test draws its seed here, so that a failure prints it and the
// environment variable CAIRN_SEED repeats it.

import { Random as Seeded } from '../../src/torture/random.ts';

export class Random extends Seeded {
  constructor(seed: number = seedOfRun()) {
    super(seed);
  }
}

// `npm test` gives one made of the sources (scripts/lib/seed.mjs).
function seedOfRun(): number {
  const given = process.env['CAIRN_SEED'];
  return given === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(given);
}

/** Runs `body` with a random source and names its seed if it throws. */
export function withRandom(body: (random: Random) => void): void {
  const random = new Random();
  try {
    body(random);
  } catch (error) {
    throw new Error(`Failed with CAIRN_SEED=${random.seed}`, { cause: error });
  }
}
