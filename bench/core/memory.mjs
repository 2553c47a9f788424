// What an entry takes beyond its key and its value: resident memory of a process before and after it filled a cache.

import { withActors } from '../lib/actors.mjs';
import { ratio, summary } from '../lib/statistics.mjs';
import { number, withRange } from '../lib/table.mjs';
import { fill, loadCache, makeCache, mustHold } from './caches.mjs';
import { KEY_BYTES, keyOf, VALUE_BYTES, valueOf } from './workload.mjs';

const PAYLOAD_BYTES = KEY_BYTES + VALUE_BYTES;

async function settledRss() {
  for (let i = 0; i < 3; i++) {
    globalThis.gc();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return process.memoryUsage.rss();
}

/** `control` makes the same strings and keeps none of them: it measures the memory that making them leaves behind. */
export async function actor(name, { entries }) {
  // Its code is there once, however many entries.
  if (name !== 'control') await loadCache(name);
  let sink = 0;
  const discard = { set: (key, value) => void (sink += key.length + value.length) };
  return {
    calls: {
      async fill() {
        // A first fill that stores nothing: the heap of the process grows to the size that making the strings needs.
        fill(discard, 0, entries, keyOf, valueOf);
        const before = await settledRss();
        const cache = name === 'control' ? discard : await makeCache(name, { entries, entryBytes: PAYLOAD_BYTES });
        fill(cache, 0, entries, keyOf, valueOf);
        const after = await settledRss();
        if (name !== 'control') mustHold(cache.size === entries, `${name} holds ${cache.size} entries`);
        return { rss: after - before, sink };
      },
    },
  };
}

export const section = {
  name: 'memory',
  title: 'memory beyond key and value',
  async run({ quick, rounds }) {
    const entries = quick ? 50_000 : 1_000_000;
    const names = ['control', 'cairn', 'lru-cache', 'mnemonist', 'tiny-lru', 'quick-lru'];
    const perEntry = Object.fromEntries(names.map((name) => [name, []]));
    for (let round = 0; round < Math.min(rounds, 3); round++) {
      for (const name of names) {
        // A process for each fill: none ever gives back all that it had.
        await withActors(import.meta.url, [name], { options: { entries } }, async (actors) => {
          const { rss } = (await actors.get(name).ask({ call: 'fill' })).result;
          perEntry[name].push(rss / entries - (name === 'control' ? 0 : PAYLOAD_BYTES));
        });
      }
    }
    const results = names.map((name) => ({ name, bytesPerEntry: summary(perEntry[name]) }));
    return {
      note: `${entries.toLocaleString('en-US')} entries of ${KEY_BYTES} + ${VALUE_BYTES} bytes, strings. Growth of the process's resident memory, less key and value; the control stores nothing.`,
      tables: [
        {
          headings: ['', 'bytes beyond key and value', 'x cairn'],
          rows: results.map(({ name, bytesPerEntry }) => [
            name,
            withRange(bytesPerEntry),
            name === 'control' ? '' : number(ratio(perEntry[name], perEntry.cairn).median),
          ]),
        },
      ],
      results,
      targets: { memory: results.find(({ name }) => name === 'cairn').bytesPerEntry },
    };
  },
};
