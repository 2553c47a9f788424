// get of a hit, against lru-cache: with a key string made for each request, as in a server, and with key strings that
// were kept, which is what a JavaScript Map likes best.

import { alternate, compare, withActors } from '../lib/actors.mjs';
import { comparison } from '../lib/table.mjs';
import { fill, makeCache, mustHold } from './caches.mjs';
import { KEY_BYTES, keyOf, requestStream, uniformNumbers, VALUE_BYTES, valueOf, zipfNumbers } from './workload.mjs';

const REQUESTS = 2 ** 17;
const steps = [
  'new keys, uniform',
  'new keys, zipf',
  'kept keys, uniform',
  'kept keys, zipf',
  'new keys, uniform, value read',
  'new keys, zipf, value read',
];

/** `control` makes and reads the same keys and calls no cache. */
export async function actor(name, { entries }) {
  const uniform = uniformNumbers(REQUESTS, entries);
  const zipf = zipfNumbers(REQUESTS, entries);
  const keys = Array.from({ length: entries }, (_, i) => keyOf(i));
  let sink = 0;
  if (name === 'control') {
    const make = (numbers) => {
      const stream = requestStream(numbers);
      return () => {
        for (let at = 0; at < stream.length; at += KEY_BYTES) sink += stream.latin1Slice(at, at + KEY_BYTES).length;
        return REQUESTS;
      };
    };
    const keep = (numbers) => {
      const requests = Array.from(numbers, (number) => keys[number]);
      return () => {
        for (let i = 0; i < REQUESTS; i++) sink += requests[i].length;
        return REQUESTS;
      };
    };
    return { steps: passes(make, keep), calls: { sink: () => sink } };
  }
  const cache = await makeCache(name, { entries, entryBytes: KEY_BYTES + VALUE_BYTES });
  fill(cache, 0, entries, (i) => keys[i], valueOf);
  mustHold(cache.size === entries, 'not every entry is in the cache');
  const make = (numbers) => {
    const stream = requestStream(numbers);
    return () => {
      let hits = 0;
      for (let at = 0; at < stream.length; at += KEY_BYTES) {
        if (cache.get(stream.latin1Slice(at, at + KEY_BYTES)) !== undefined) hits++;
      }
      mustHold(hits === REQUESTS, 'a get missed');
      return REQUESTS;
    };
  };
  const keep = (numbers) => {
    const requests = Array.from(numbers, (number) => keys[number]);
    return () => {
      let hits = 0;
      for (let i = 0; i < REQUESTS; i++) {
        if (cache.get(requests[i]) !== undefined) hits++;
      }
      mustHold(hits === REQUESTS, 'a get missed');
      return REQUESTS;
    };
  };
  // A string that a JavaScript cache returns has not been looked at yet; one that comes from outside the heap has.
  const makeAndRead = (numbers) => {
    const stream = requestStream(numbers);
    return () => {
      let sum = 0;
      for (let at = 0; at < stream.length; at += KEY_BYTES) {
        sum += cache.get(stream.latin1Slice(at, at + KEY_BYTES)).charCodeAt(VALUE_BYTES - 1);
      }
      mustHold(sum === REQUESTS * 'v'.charCodeAt(0), 'a get gave another value');
      return REQUESTS;
    };
  };
  return {
    steps: { ...passes(make, keep), [steps[4]]: makeAndRead(uniform), [steps[5]]: makeAndRead(zipf) },
  };

  function passes(make, keep) {
    return {
      [steps[0]]: make(uniform),
      [steps[1]]: make(zipf),
      [steps[2]]: keep(uniform),
      [steps[3]]: keep(zipf),
    };
  }
}

const names = ['control', 'cairn', 'lru-cache'];

async function measureSize(entries, chosen, timing) {
  const samples = await withActors(import.meta.url, names, { options: { entries } }, (actors) =>
    alternate(actors, chosen, timing),
  );
  return compare(samples, { rival: 'lru-cache' });
}

export const section = {
  name: 'reads',
  title: 'get of a hit',
  async run({ quick, entries, rounds, ms }) {
    const results = await measureSize(entries, steps, { rounds, ms });
    // Which of the two is faster depends on what fits the processor's caches: so the same at other sizes.
    const bySize = {};
    for (const size of quick ? [] : [entries / 10, entries * 10]) {
      bySize[size] = await measureSize(size, [steps[0], steps[2], steps[4]], { rounds: Math.ceil(rounds / 2), ms });
    }
    const ids = [
      'get-new-uniform',
      'get-new-zipf',
      'get-kept-uniform',
      'get-kept-zipf',
      'get-read-uniform',
      'get-read-zipf',
    ];
    const table = (title, rows) => ({ ...comparison({ names, rival: 'lru-cache', results: rows }), title });
    return {
      note: `Keys of ${KEY_BYTES} and values of ${VALUE_BYTES} bytes, strings. The control makes and touches the keys only. "Value read": one character of the value is looked at.`,
      tables: [
        table(`${entries.toLocaleString('en-US')} entries`, results),
        ...Object.entries(bySize).map(([size, rows]) => table(`${Number(size).toLocaleString('en-US')} entries`, rows)),
      ],
      results: { [entries]: results, ...bySize },
      targets: Object.fromEntries(ids.map((id, i) => [id, results[i].speed.cpu])),
    };
  },
};
