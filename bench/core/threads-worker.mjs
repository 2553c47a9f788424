// One of the threads of threads.mjs: gets from the cache of the mode until it is over.

import { parentPort, workerData } from 'node:worker_threads';
import { Cache } from 'cairn-cache';
import { runInTurns } from '../lib/threads.mjs';
import { mustHold } from './caches.mjs';
import { KEY_BYTES, requestStream, uniformNumbers } from './workload.mjs';

const REQUESTS = 2 ** 16;
const { thread, entries } = workerData;
const half = entries / 2;
const everything = requestStream(uniformNumbers(REQUESTS, entries, 10 + thread));
const ownHalf = requestStream(uniformNumbers(REQUESTS, half, 20 + thread).map((number) => number + thread * half));
const all = [Cache.attach('all'), Cache.attach('all too')];
const halves = [Cache.attach('first half'), Cache.attach('second half')];

const loads = {
  'one thread': [all[0], everything],
  'one cache': [all[0], everything],
  'half each': [halves[thread], ownHalf],
  'all each': [all[thread], everything],
  'nothing shared': [{ get: (key) => key }, everything],
};

/** Goes through a stream until it is over. Returns how many requests that were. */
function go(cache, stream, isOver) {
  let done = 0;
  for (;;) {
    for (let at = 0; at < stream.length; ) {
      const stop = at + 1024 * KEY_BYTES;
      let hits = 0;
      for (; at < stop; at += KEY_BYTES) {
        if (cache.get(stream.latin1Slice(at, at + KEY_BYTES)) !== undefined) hits++;
      }
      mustHold(hits === 1024, 'a get missed');
      done += 1024;
      if (isOver()) return done;
    }
  }
}

runInTurns((mode) => {
  const [cache, stream] = loads[mode];
  return (isOver) => go(cache, stream, isOver);
});
parentPort.postMessage('ready');
