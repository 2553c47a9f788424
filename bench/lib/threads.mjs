// Worker threads that work at the same time: all begin at one moment and stop at one moment. Work that one does while
// another rests is not counted.
//
// The parent calls startThreads(). The threads' module says `parentPort.postMessage('ready')` when it is set up, and
// gives runInTurns() the work of a message.

import { once } from 'node:events';
import { parentPort, Worker } from 'node:worker_threads';
import { moment, threadCpuNs } from './clock.mjs';

/** `count` threads of the module. `workerData` of each is `data` and its number as `thread`. */
export async function startThreads(moduleUrl, count, data) {
  const workers = Array.from(
    { length: count },
    (_, thread) => new Worker(moduleUrl, { workerData: { ...data, thread } }),
  );
  for (const worker of workers) {
    worker.on('error', (error) => {
      throw error;
    });
  }
  const answer = async (worker) => (await once(worker, 'message'))[0];
  await Promise.all(workers.map(answer));
  return {
    /**
     * Has the first `threads` threads do the work of `message` for about `ms`. Per thread: the nanoseconds of an
     * operation, `busy` without the time on the run queue, `cpu` on a processor.
     */
    run(threads, message, ms) {
      const busy = workers.slice(0, threads);
      const gate = new Int32Array(new SharedArrayBuffer(8));
      const answers = busy.map(answer);
      for (const worker of busy) worker.postMessage({ message, gate, threads });
      setTimeout(() => Atomics.store(gate, 1, 1), ms + 50);
      return Promise.all(answers);
    },
  };
}

/**
 * In a thread: `prepare(message)` returns the work. It is called with a function `isOver`, and returns how many
 * operations it did until that was true.
 */
export function runInTurns(prepare) {
  parentPort.on('message', ({ message, gate, threads }) => {
    const work = prepare(message);
    const isOver = () => Atomics.load(gate, 1) !== 0;
    Atomics.add(gate, 0, 1);
    while (Atomics.load(gate, 0) < threads);
    const cpuStart = threadCpuNs();
    const start = moment();
    const done = work(isOver);
    const end = moment();
    const cpu = threadCpuNs() - cpuStart;
    const busy = (end.ms - start.ms - (end.queuedMs - start.queuedMs)) * 1e6;
    parentPort.postMessage({ busy: busy / done, cpu: cpu / done });
  });
}
