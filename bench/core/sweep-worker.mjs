// One of the threads of sweep.mjs: requests to the cache of the mode until it is over.

import { parentPort, workerData } from 'node:worker_threads';
import { Cache } from 'cairn-cache';
import { runInTurns } from '../lib/threads.mjs';
import { mustHold } from './caches.mjs';
import { KEY_BYTES, requestStream, uniformNumbers, valueOf } from './workload.mjs';

const REQUESTS = 2 ** 16;
const { thread, entries } = workerData;
const half = entries / 2;
const everything = requestStream(uniformNumbers(REQUESTS, entries, 10 + thread));
const ownHalf = requestStream(uniformNumbers(REQUESTS, half, 20 + thread).map((number) => number + thread * half));
const value = valueOf(1);
const caches = new Map();

function attached(name) {
  let cache = caches.get(name);
  if (cache === undefined) caches.set(name, (cache = Cache.attach(name)));
  return cache;
}

/** Goes through a stream until it is over; of 100 requests the first `reads` are gets. Returns how many it did. */
function go(cache, stream, reads, isOver) {
  let done = 0;
  for (;;) {
    for (let at = 0; at < stream.length; ) {
      let misses = 0;
      for (let i = 0; i < 1024; i++, at += KEY_BYTES) {
        const key = stream.latin1Slice(at, at + KEY_BYTES);
        if (i % 100 >= reads) cache.set(key, value);
        else if (cache.get(key) === undefined) misses++;
      }
      mustHold(misses === 0, 'a get missed');
      done += 1024;
      if (isOver()) return done;
    }
  }
}

runInTurns(({ mode, shards, reads }) => {
  const apart = mode === 'apart';
  const cache = attached(`${apart ? thread : 'all'} ${shards}`);
  return (isOver) => go(cache, apart ? ownHalf : everything, reads, isOver);
});
parentPort.postMessage('ready');
