// The promised verbs: batches of 64 keys, and single calls with 64 in flight, against what people do by hand: one task
// of a piscina thread for each call.

import { fileURLToPath } from 'node:url';
import { alternate, compare, withActors } from '../lib/actors.mjs';
import { ratio, summary } from '../lib/statistics.mjs';
import { fill, makeCache, mustHold } from './caches.mjs';
import { KEY_BYTES, keyOf, uniformNumbers, VALUE_BYTES, valueOf } from './workload.mjs';

const BATCH = 64;
const BATCHES_IN_FLIGHT = 4;
const REQUESTS = 2 ** 13;
const steps = ['getMany of 64', 'single gets, 64 in flight', 'single sets, 64 in flight'];

/**
 * `control` answers each call with a new promise and looks nothing up: it shows what promises cost. `piscina` asks a
 * thread that holds the entries in a Map, a task for each call; `piscina, no atomics` is its other way of waiting.
 */
export async function actor(name, { entries }) {
  const numbers = uniformNumbers(REQUESTS, entries);
  const keys = Array.from(numbers, (number) => keyOf(number));
  const values = Array.from(numbers, (number) => valueOf(number));
  const batches = Array.from({ length: REQUESTS / BATCH }, (_, i) => keys.slice(i * BATCH, (i + 1) * BATCH));
  const service = await makeService(name, entries);

  // `width` calls in flight at any moment.
  async function inFlight(width, count, call) {
    let next = 0;
    const lane = async () => {
      while (next < count) await call(next++);
    };
    await Promise.all(Array.from({ length: width }, lane));
  }
  const check = (value) => mustHold(value?.length === VALUE_BYTES, 'a get missed');
  return {
    steps: {
      ...(service.getMany && {
        [steps[0]]: async () => {
          await inFlight(BATCHES_IN_FLIGHT, batches.length, async (i) => {
            const found = await service.getMany(batches[i]);
            for (let k = 0; k < BATCH; k++) check(found[k]);
          });
          return REQUESTS;
        },
      }),
      [steps[1]]: async () => {
        await inFlight(BATCH, REQUESTS, async (i) => check(await service.get(keys[i])));
        return REQUESTS;
      },
      [steps[2]]: async () => {
        await inFlight(BATCH, REQUESTS, (i) => service.set(keys[i], values[i]));
        return REQUESTS;
      },
    },
  };
}

async function makeService(name, entries) {
  if (name === 'cairn') {
    const cache = await makeCache('cairn', { entries, entryBytes: KEY_BYTES + VALUE_BYTES });
    fill(cache, 0, entries, keyOf, valueOf);
    const { promises } = cache;
    return {
      get: (key) => promises.get(key),
      set: (key, value) => promises.set(key, value),
      getMany: (batch) => promises.getMany(batch),
    };
  }
  if (name === 'control') {
    const value = valueOf(0);
    return {
      get: async () => value,
      set: async () => undefined,
      getMany: async (batch) => batch.map(() => value),
    };
  }
  const { Piscina } = await import('piscina');
  const pool = new Piscina({
    filename: fileURLToPath(new URL('./promises-worker.mjs', import.meta.url)),
    workerData: { entries },
    minThreads: 1,
    maxThreads: 1,
    concurrentTasksPerWorker: BATCH,
    ...(name === 'piscina, no atomics' && { atomics: 'disabled' }),
  });
  return { get: (key) => pool.run({ key }), set: (key, value) => pool.run({ key, value }) };
}

export const section = {
  name: 'promises',
  title: 'promised verbs',
  async run({ entries, rounds, ms }) {
    const names = ['control', 'cairn', 'piscina', 'piscina, no atomics'];
    const samples = await withActors(import.meta.url, names, { options: { entries } }, (actors) =>
      alternate(actors, steps, { rounds, ms }),
    );
    const single = samples[steps[1]];
    // The faster of piscina's two ways is the rival.
    const [rival] = names.slice(2).sort((a, b) => summary(single[a].cpu).median - summary(single[b].cpu).median);
    return {
      note: `${entries.toLocaleString('en-US')} entries, keys of ${KEY_BYTES} and values of ${VALUE_BYTES} bytes; CPU time of the calling thread. Batches: ${BATCHES_IN_FLIGHT} in flight.`,
      names,
      rival,
      results: compare(samples, { rival }),
      targets: {
        'promises-batch': summary(samples[steps[0]].cairn.cpu.map((ns) => 1e9 / ns)),
        'promises-single': ratio(single[rival].cpu, single.cairn.cpu),
      },
    };
  },
};
