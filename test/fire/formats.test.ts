// kill -9 across formats: a directory that a program of format 1, 2 or 3 has left is opened by a process that writes,
// acknowledges each write behind cache.sync(), and is killed at a random moment; then the next process goes on. In the
// end everything that was acknowledged is there, with what the first program had left; the write that was under way may
// be there or not; and what was stale is stale.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { describe, expect, test } from 'vitest';
import { survey } from '../../src/log/index.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { age, appendOld } from '../support/old-formats.ts';
import { Random } from '../support/random.ts';
import type { RecordParts } from '../support/records.ts';

const data = new DataDirectories('fire-formats');
const ROUNDS = 4;

const PROGRAM = `
  const [library, data, round] = process.argv.slice(1);
  const { Cache } = await import(library);
  const cache = await Cache.open({ data, maxMemory: '8mb', sync: 'always', snapshot: { atClose: false } });
  const options = { ttl: 1, staleIfError: Infinity };
  for (let i = 0; ; i++) {
    const key = 'key ' + (i % 7);
    cache.set(key, round + '.' + i);
    cache.incr('count', 1, { initial: 1 });
    if (i % 5 === 0) cache.delete('old ' + round);
    if (i % 11 === 3) await cache.fetch('loaded ' + round, () => 'value', options);
    if (i % 50 === 49) await cache.snapshot();
    await cache.sync();
    process.stdout.write(JSON.stringify({ i, key, value: round + '.' + i, count: Number(cache.get('count')) }) + '\\n');
  }
`;

interface Acknowledged {
  /** How many it has acknowledged before. */
  readonly i: number;
  readonly key: string;
  readonly value: string;
  readonly count: number;
}

/** Lets a process write until it has acknowledged `count` writes, and kills it. Returns all that it acknowledged. */
async function writeUntilKilled(directory: string, round: number, count: number): Promise<Acknowledged[]> {
  const library = new URL('../../dist/index.js', import.meta.url).href;
  const child = spawn(process.execPath, ['--input-type=module', '-e', PROGRAM, library, directory, String(round)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const closed = once(child, 'close');
  const acknowledged: Acknowledged[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    acknowledged.push(JSON.parse(line) as Acknowledged);
    if (acknowledged.length === count) child.kill('SIGKILL');
  }
  const [, signal] = await closed;
  expect(signal).toBe('SIGKILL');
  return acknowledged;
}

describe.each([1, 2, 3])('a directory of format %i', (version) => {
  test(`keeps what was acknowledged through ${ROUNDS} processes that are killed`, { timeout: 120_000 }, async () => {
    const directory = data.fresh();
    const set = (key: string, value: string): RecordParts => ({ kind: 'set', key, value });
    if (version === 3) {
      const cache = await data.open(directory);
      for (let i = 0; i < 6; i++) cache.set(`old ${i}`, `from before ${i}`);
      cache.set('count', '100');
      await cache.sync();
      await data.crash(cache);
    } else {
      appendOld(directory, 6, [{ ...set('cleared', 'x'), epoch: 5 }, { kind: 'clear' }]);
      appendOld(
        directory,
        8,
        Array.from({ length: 6 }, (_, i) => set(`old ${i}`, `from before ${i}`)),
      );
      appendOld(directory, 10, [set('count', '100')]);
      age(directory, version);
    }
    const random = new Random();
    /** What each key may have: the last acknowledged value, and those that were under way behind it at a kill. */
    const possible = new Map<string, (string | undefined)[]>();
    let count = 100;
    for (let round = 0; round < ROUNDS; round++) {
      const acknowledged = await writeUntilKilled(directory, round, 4 + random.below(70));
      expect(acknowledged.length).toBeGreaterThan(3);
      // The write before the kill, which was not acknowledged, may have counted.
      expect(acknowledged[0]!.count - count).toBeOneOf(round === 0 ? [1] : [1, 2]);
      count = acknowledged.at(-1)!.count;
      for (const { key, value } of acknowledged) possible.set(key, [value]);
      const next = acknowledged.at(-1)!.i + 1;
      const key = `key ${next % 7}`;
      possible.set(key, [...(possible.get(key) ?? [undefined]), `${round}.${next}`]);
    }
    const cache = await data.open<string>(directory);
    const under = Number(cache.get('count')) - count;
    expect(under).toBeOneOf([0, 1]);
    for (const [key, values] of possible) expect(cache.get(key), key).toBeOneOf(values);
    for (let i = 0; i < 6; i++) expect(cache.get(`old ${i}`)).toBe(i < ROUNDS ? undefined : `from before ${i}`);
    expect(cache.has('cleared')).toBe(false);
    for (let round = 0; round < ROUNDS; round++) {
      const key = `loaded ${round}`;
      expect(cache.get(key)).toBeUndefined();
      const fail = (): never => {
        throw new Error('on purpose');
      };
      expect(await cache.fetch(key, fail, { staleIfError: Number.POSITIVE_INFINITY })).toBe('value');
    }
    await cache.close();
    const { problems, segments } = survey(directory, { isDeep: true });
    expect(problems.filter(({ kind }) => kind !== 'note')).toEqual([]);
    expect(segments.at(-1)!.header.formatVersion).toBe(3);
  });
});
