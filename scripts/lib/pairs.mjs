// Jobs of a step, two at a time: most programs of the checks have one thread, and the smallest machine has two
// processors.

import { spawn } from 'node:child_process';
import { BuildError } from './project.mjs';

/** Runs all jobs (async functions) in their order, also after one has failed. Throws what they threw, in one error. */
export async function inPairs(jobs) {
  const waiting = [...jobs];
  const reasons = [];
  const runNext = async () => {
    for (let job = waiting.shift(); job !== undefined; job = waiting.shift()) {
      try {
        await job();
      } catch (error) {
        if (!(error instanceof BuildError)) throw error;
        reasons.push(error.message);
      }
    }
  };
  await Promise.all([runNext(), runNext()]);
  if (reasons.length > 0) throw new BuildError(reasons.join('\n'));
}

/** As much of the output of a program as its failure shows, in characters. */
const TAIL = 30_000;

/**
 * Runs a program in a process. Resolves with what it printed; rejects, with the end of that, if it fails. A run that
 * takes longer than half an hour is ended. `output`: a file descriptor that gets the output instead.
 */
export async function runAside(command, args, { output, ...options } = {}) {
  const child = spawn(command, args, {
    timeout: 1_800_000,
    killSignal: 'SIGKILL',
    ...options,
    stdio: ['ignore', output ?? 'pipe', output ?? 'pipe'],
  });
  let printed = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text) => {
      printed += text;
    });
  }
  const reason = await new Promise((resolve) => {
    child.once('error', ({ message }) => resolve(message));
    child.once('close', (code, signal) =>
      resolve(code === 0 ? undefined : signal === null ? `exit code ${code}` : `ended by ${signal}`),
    );
  });
  if (reason === undefined) return printed;
  throw new BuildError(`${[command, ...args].join(' ')}: ${reason}\n${printed.slice(-TAIL)}`.trimEnd());
}
