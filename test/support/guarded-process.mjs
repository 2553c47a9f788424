// A program that ends with the process that started it, however that ends, and is paused and killed by tests.

import { spawn } from 'node:child_process';

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

  /** SIGSTOP and SIGCONT return at once; see `end`. */
  signal(name) {
    if (this.isRunning) this.#child.kill(name);
  }

  /** Ends it by a signal, at once or as it does by that signal, and resolves when it is gone. */
  async end(signal = 'SIGKILL') {
    this.signal(signal);
    await this.#ended;
  }
}
