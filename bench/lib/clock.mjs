// What a thread costs: the time that it was on a processor, and the time that it was not there although it wanted to
// be. Other work on the machine lengthens the latter, not the former, so figures of a busy machine can still be
// compared.
//
// Linux only: from the scheduler's own counters. Elsewhere CPU time is what Node can say, the whole process's in the
// worst case, and the time on the run queue counts as zero; `cpuSource` says which it is.

import { readFileSync } from 'node:fs';

const SCHEDSTAT = '/proc/thread-self/schedstat';

function readSchedstat() {
  const [cpuNs, queuedNs] = readFileSync(SCHEDSTAT, 'latin1').split(' ');
  return { cpuNs: Number(cpuNs), queuedNs: Number(queuedNs) };
}

function chooseSource() {
  try {
    readSchedstat();
    return 'scheduler';
  } catch {
    return typeof process.threadCpuUsage === 'function' ? 'thread' : 'process';
  }
}

/** Where CPU time comes from: 'scheduler' (exact), 'thread' or 'process' (as precise as the system's clock tick). */
export const cpuSource = chooseSource();

const cell = new Int32Array(new SharedArrayBuffer(4));

/** Nanoseconds that the calling thread has been on a processor. Takes about 0.1 ms: for both ends of a measurement. */
export function threadCpuNs() {
  if (cpuSource === 'scheduler') {
    // The counter is brought up to date when the thread leaves the processor or at the next tick, up to 10 ms later:
    // a sleep of no length makes it leave.
    Atomics.wait(cell, 0, 0, 0.02);
    return readSchedstat().cpuNs;
  }
  const { user, system } = cpuSource === 'thread' ? process.threadCpuUsage() : process.cpuUsage();
  return (user + system) * 1000;
}

/** Nanoseconds that the calling thread has waited for a processor while others had it. Exact at any moment. */
export function queuedNs() {
  return cpuSource === 'scheduler' ? readSchedstat().queuedNs : 0;
}

/**
 * A moment, in milliseconds, with the time on the run queue up to it. Read together: a thread loses its processor most
 * easily at the end of a system call, such as the reading of the one before the reading of the other.
 */
export function moment() {
  let queued = queuedNs();
  for (;;) {
    const ms = performance.now();
    const again = queuedNs();
    if (again === queued) return { ms, queuedMs: queued / 1e6 };
    queued = again;
  }
}

/** Nanoseconds of CPU time of the whole process: garbage collector and other helpers included. */
export function processCpuNs() {
  const { user, system } = process.cpuUsage();
  return (user + system) * 1000;
}

/**
 * Runs `pass` again and again for about `ms` and says what one of its operations cost, in nanoseconds: `cpu` of this
 * thread, `all` of the whole process, `wall`. `pass` returns how many operations it did, or a promise of that.
 */
export async function measure(pass, ms) {
  let operations = 0;
  const allAtStart = processCpuNs();
  const cpuAtStart = threadCpuNs();
  const start = performance.now();
  let elapsed;
  do {
    const done = pass();
    operations += typeof done === 'number' ? done : await done;
    elapsed = performance.now() - start;
  } while (elapsed < ms);
  const cpu = threadCpuNs() - cpuAtStart;
  const all = processCpuNs() - allAtStart;
  return { cpu: cpu / operations, all: all / operations, wall: (elapsed * 1e6) / operations, operations };
}
