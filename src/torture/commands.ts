/** A database that is stopped and started by commands of the user's. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { DatabaseFault } from './database.ts';
import { sleep } from './sleep.ts';

/** How long it is away, beside what the commands take. */
const AWAY_MS = 300;

/** Throws, in `run`, if a command fails. The second one runs whatever became of the first. */
export function stoppedBy(stopCommand: string, startCommand: string): DatabaseFault {
  return {
    name: 'database stopped',
    run: async () => {
      try {
        await run('--stop-command', stopCommand);
        await sleep(AWAY_MS);
      } finally {
        await run('--start-command', startCommand);
      }
    },
  };
}

// Its output may have anything in it, and is not shown.
async function run(flag: string, command: string): Promise<void> {
  const child = spawn(command, { shell: true, stdio: 'ignore', detached: process.platform !== 'win32' });
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
  if (code !== 0) throw new Error(`The command of ${flag} ended with ${code ?? signal}`);
}
