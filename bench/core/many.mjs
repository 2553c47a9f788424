// getMany of 64 keys, per key, against single gets of the same keys on the same cache.

import { alternate, compare, withActors } from '../lib/actors.mjs';
import { ratio } from '../lib/statistics.mjs';
import { fill, makeCache, mustHold } from './caches.mjs';
import { KEY_BYTES, keyOf, requestStream, uniformNumbers, VALUE_BYTES, valueOf } from './workload.mjs';

const REQUESTS = 2 ** 16;
const BATCH = 64;
const steps = [
  'get, new keys',
  'getMany, new keys',
  'get, kept keys',
  'getMany, kept keys',
  'getMany packed, keys packed before',
  'setMany, kept strings',
  'set, kept strings',
];

/** The control makes the new keys, or only looks at the kept ones. `lru-cache` has single gets only. */
export async function actor(name, { entries }) {
  const numbers = uniformNumbers(REQUESTS, entries);
  const stream = requestStream(numbers);
  const keys = Array.from({ length: entries }, (_, i) => keyOf(i));
  const values = Array.from({ length: entries }, (_, i) => valueOf(i));
  const kept = Array.from(numbers, (number) => keys[number]);
  const batches = Array.from({ length: REQUESTS / BATCH }, (_, i) => kept.slice(i * BATCH, (i + 1) * BATCH));
  let sink = 0;
  if (name === 'control') {
    return {
      steps: {
        [steps[0]]: () => {
          for (let at = 0; at < stream.length; at += KEY_BYTES) sink += stream.latin1Slice(at, at + KEY_BYTES).length;
          return REQUESTS;
        },
        [steps[1]]: () => {
          for (let at = 0; at < stream.length; ) {
            const batch = [];
            for (let i = 0; i < BATCH; i++, at += KEY_BYTES) batch.push(stream.latin1Slice(at, at + KEY_BYTES));
            sink += batch.length;
          }
          return REQUESTS;
        },
        [steps[2]]: () => {
          for (let i = 0; i < REQUESTS; i++) sink += kept[i].length;
          return REQUESTS;
        },
      },
      calls: { sink: () => sink },
    };
  }
  const cache = await makeCache(name, { entries, entryBytes: KEY_BYTES + VALUE_BYTES });
  fill(
    cache,
    0,
    entries,
    (i) => keys[i],
    (i) => values[i],
  );
  mustHold(cache.size === entries, 'not every entry is in the cache');
  const single = {
    [steps[0]]: () => {
      let hits = 0;
      for (let at = 0; at < stream.length; at += KEY_BYTES) {
        if (cache.get(stream.latin1Slice(at, at + KEY_BYTES)) !== undefined) hits++;
      }
      mustHold(hits === REQUESTS, 'a get missed');
      return REQUESTS;
    },
    [steps[2]]: () => {
      let hits = 0;
      for (let i = 0; i < REQUESTS; i++) if (cache.get(kept[i]) !== undefined) hits++;
      mustHold(hits === REQUESTS, 'a get missed');
      return REQUESTS;
    },
    [steps[6]]: () => {
      for (let i = 0; i < REQUESTS; i++) cache.set(kept[i], values[numbers[i]]);
      return REQUESTS;
    },
  };
  if (name !== 'cairn') return { steps: single };
  const { PackedKeys } = await import('cairn-cache');
  const packed = batches.map((batch) => PackedKeys.from(batch));
  const pairs = batches.map((batch, i) => batch.map((key, k) => [key, values[numbers[i * BATCH + k]]]));
  return {
    steps: {
      ...single,
      [steps[1]]: () => {
        let hits = 0;
        for (let at = 0; at < stream.length; ) {
          const batch = [];
          for (let i = 0; i < BATCH; i++, at += KEY_BYTES) batch.push(stream.latin1Slice(at, at + KEY_BYTES));
          const found = cache.getMany(batch);
          for (let i = 0; i < BATCH; i++) if (found[i] !== undefined) hits++;
        }
        mustHold(hits === REQUESTS, 'a getMany missed');
        return REQUESTS;
      },
      [steps[3]]: () => {
        let hits = 0;
        for (const batch of batches) {
          const found = cache.getMany(batch);
          for (let i = 0; i < BATCH; i++) if (found[i] !== undefined) hits++;
        }
        mustHold(hits === REQUESTS, 'a getMany missed');
        return REQUESTS;
      },
      [steps[4]]: () => {
        let hits = 0;
        for (const batch of packed) {
          const found = cache.getMany(batch);
          for (let i = 0; i < BATCH; i++) if (found.has(i)) hits++;
        }
        mustHold(hits === REQUESTS, 'a packed getMany missed');
        return REQUESTS;
      },
      [steps[5]]: () => {
        for (const batch of pairs) cache.setMany(batch);
        return REQUESTS;
      },
    },
  };
}

export const section = {
  name: 'many',
  title: 'getMany and setMany of 64, per key',
  async run({ entries, rounds, ms }) {
    const names = ['control', 'cairn', 'lru-cache'];
    const samples = await withActors(import.meta.url, names, { options: { entries } }, (actors) =>
      alternate(actors, steps, { rounds, ms }),
    );
    const cpu = (step) => samples[steps[step]].cairn.cpu;
    const against = {
      'getMany, new keys, x get': ratio(cpu(0), cpu(1)),
      'getMany, kept keys, x get': ratio(cpu(2), cpu(3)),
      'getMany packed, x get of kept keys': ratio(cpu(2), cpu(4)),
      'setMany, kept strings, x set': ratio(cpu(6), cpu(5)),
    };
    return {
      note: `${entries.toLocaleString('en-US')} entries, keys of ${KEY_BYTES} and values of ${VALUE_BYTES} bytes, uniform.`,
      names,
      rival: 'lru-cache',
      results: compare(samples, { rival: 'lru-cache' }),
      ratios: against,
      targets: {
        'many-arrays': against['getMany, new keys, x get'],
        'many-packed': against['getMany packed, x get of kept keys'],
      },
    };
  },
};
