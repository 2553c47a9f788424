// A program that ends with the process that started it, however that ends, and is paused and killed by tests.

import { spawn, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';

// The guard in the background reads a line that comes only when the program is over; the end of its input, which is
// that of the process which started it, kills the program. The shell becomes the program, so that both have one id.
const GUARD = '{ read -r line <&3 || kill -KILL $$; } & exec "$@" 3<&-';

export class GuardedProcess {
  #child;
  #ended;

  constructor(command, { env = process.env } = {}) {
    const stdio = ['ignore', 'ignore', 'ignore', 'pipe'];
    this.#child = spawn('sh', ['-c', GUARD, 'sh', ...command], { stdio, env });
    const guard = this.#child.stdio[3];
    // The guard is gone already where a signal went to the whole group.
    guard.on('error', () => {});
    this.#ended = new Promise((resolve) => {
      this.#child.once('exit', () => {
        guard.end('over\n');
        resolve();
      });
    });
  }

  get pid() {
    return this.#child.pid;
  }

  get isRunning() {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  signal(name) {
    if (this.isRunning) this.#child.kill(name);
  }

  /** Resolves when none of its threads runs any more: after the signal they go on for a while on a busy machine. */
  async pause() {
    this.signal('SIGSTOP');
    while (this.isRunning && !isStopped(this.pid)) await new Promise((resolve) => setTimeout(resolve, 5));
  }

  resume() {
    this.signal('SIGCONT');
  }

  /** Ends it by a signal, at once or as it does by that signal, and resolves when it is gone. */
  async end(signal = 'SIGKILL') {
    this.signal(signal);
    await this.#ended;
  }
}

function isStopped(pid) {
  if (process.platform !== 'linux') {
    return spawnSync('ps', ['-o', 'state=', '-p', String(pid)], { encoding: 'utf8' }).stdout.startsWith('T');
  }
  try {
    // The state is behind the name, which is in parentheses and may have some too.
    const stateOf = (task) => readFileSync(`/proc/${pid}/task/${task}/stat`, 'latin1').split(') ').at(-1)[0];
    return readdirSync(`/proc/${pid}/task`).every((task) => stateOf(task) === 'T');
  } catch {
    // A thread or the process has ended meanwhile.
    return false;
  }
}
