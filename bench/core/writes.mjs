// set, against lru-cache: of a key that is not there, into a full cache, so that another has to go; and of one that is.

import { alternate, compare, withActors } from '../lib/actors.mjs';
import { fill, makeCache, mustHold } from './caches.mjs';
import { KEY_BYTES, keyOf, uniformNumbers, VALUE_BYTES, valueOf, writeKey } from './workload.mjs';

const REQUESTS = 2 ** 16;
const steps = ['insert, new strings', 'insert, kept strings', 'overwrite, new strings', 'overwrite, kept strings'];

/**
 * "New strings": key and value are made for the request, as from a network or a database. "Kept strings": both were
 * there before, two disjoint halves of 2 x `entries` keys taking turns; the cache has only to remember where they are.
 */
export async function actor(name, { entries }) {
  const keys = Array.from({ length: 2 * entries }, (_, i) => keyOf(i));
  const values = Array.from({ length: 2 * entries }, (_, i) => valueOf(i));
  const numbers = uniformNumbers(REQUESTS, entries);
  const keyRoom = Buffer.alloc(KEY_BYTES);
  const valueRoom = Buffer.alloc(VALUE_BYTES, 'v');
  const newKey = (number) => {
    writeKey(keyRoom, 0, number);
    return keyRoom.latin1Slice(0, KEY_BYTES);
  };
  const newValue = (number) => {
    valueRoom.writeUInt32LE(number & 0x7f7f7f7f, 0);
    return valueRoom.latin1Slice(0, VALUE_BYTES);
  };
  let sink = 0;
  const isControl = name === 'control';
  const cache = isControl
    ? { set: (key, value) => void (sink += key.length + value.length), size: entries }
    : await makeCache(name, { entries, entryBytes: KEY_BYTES + VALUE_BYTES, evicts: true });
  // For overwriting: every key is there, whatever else happens.
  const roomy = isControl ? cache : await makeCache(name, { entries, entryBytes: KEY_BYTES + VALUE_BYTES });
  fill(
    cache,
    0,
    entries,
    (i) => keys[i],
    (i) => values[i],
  );
  fill(
    roomy,
    0,
    entries,
    (i) => keys[i],
    (i) => values[i],
  );
  mustHold(roomy.size === entries, 'not every entry is in the cache');
  let next = 2 * entries;
  let kept = entries;
  return {
    steps: {
      [steps[0]]: () => {
        for (let i = 0; i < REQUESTS; i++, next++) cache.set(newKey(next), newValue(next));
        return REQUESTS;
      },
      [steps[1]]: () => {
        for (let i = 0; i < REQUESTS; i++) {
          cache.set(keys[kept], values[kept]);
          if (++kept === 2 * entries) kept = 0;
        }
        return REQUESTS;
      },
      [steps[2]]: () => {
        for (let i = 0; i < REQUESTS; i++) roomy.set(newKey(numbers[i]), newValue(i));
        return REQUESTS;
      },
      [steps[3]]: () => {
        for (let i = 0; i < REQUESTS; i++) roomy.set(keys[numbers[i]], values[numbers[i]]);
        mustHold(roomy.size === entries, 'an overwrite was none');
        return REQUESTS;
      },
    },
    calls: { sizes: () => [cache.size, roomy.size, sink] },
  };
}

export const section = {
  name: 'writes',
  title: 'set',
  async run({ entries, rounds, ms }) {
    const names = ['control', 'cairn', 'lru-cache'];
    const samples = await withActors(import.meta.url, names, { options: { entries } }, async (actors) => {
      const found = await alternate(actors, steps, { rounds, ms });
      for (const actor of actors.values()) {
        const [size] = (await actor.ask({ call: 'sizes' })).result;
        mustHold(size <= entries && size > entries * 0.9, `${actor.name} holds ${size} entries at the end`);
      }
      return found;
    });
    const results = compare(samples, { rival: 'lru-cache' });
    const ids = ['insert-new', 'insert-kept', 'overwrite-new', 'overwrite-kept'];
    return {
      note: `${entries.toLocaleString('en-US')} entries, keys of ${KEY_BYTES} and values of ${VALUE_BYTES} bytes. The control makes the strings and stores nothing.`,
      names,
      rival: 'lru-cache',
      results,
      targets: Object.fromEntries(results.map((row, i) => [ids[i], row.speed.cpu])),
    };
  },
};
