// The thread that promises.mjs asks through piscina: entries in a Map.

import { workerData } from 'node:worker_threads';
import { fill } from './caches.mjs';
import { keyOf, valueOf } from './workload.mjs';

const map = new Map();
fill(map, 0, workerData.entries, keyOf, valueOf);

// The name that piscina looks for.
// biome-ignore lint/style/noDefaultExport: a piscina worker is its module's default export
export default function answer({ key, value }) {
  if (value === undefined) return map.get(key);
  map.set(key, value);
  return undefined;
}
