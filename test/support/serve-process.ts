// `cairn serve` as a separate process, for tests that talk to it from outside.

import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

/** The built command line; `npm test` builds it first. */
export const cliFile: string = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

/** Signals that come so soon after one another count as one; src/cli/serve.ts has the same. */
const SAME_SIGNAL_MS = 250;

/** A running process and what it has printed. */
export interface CliProcess {
  readonly child: ChildProcess;
  readonly stdout: string;
  readonly stderr: string;
  /** Resolves when the output holds the text; rejects if the process ends first. */
  printed(text: string | RegExp): Promise<void>;
  /** Resolves when the process has ended. */
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  /** Ends it with SIGTERM if it still runs, and waits for that. */
  stop(): Promise<void>;
  /** Sends another SIGTERM, when it is taken for another one and not for the same that has come twice. */
  insist(): Promise<void>;
}

/** Starts the command line with these arguments, in a shell that has run `before` if that is given. */
export function startCli(args: readonly string[], env: NodeJS.ProcessEnv = {}, before?: string): CliProcess {
  if (!existsSync(cliFile)) throw new Error(`${cliFile} is missing: npm run build`);
  const shell = before === undefined ? [] : ['sh', '-c', `${before}; exec "$@"`, 'sh'];
  const [program = '', ...words] = [...shell, process.execPath, cliFile, ...args];
  const child = spawn(program, words, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, npm_lifecycle_event: '', ...env },
  });
  let stdout = '';
  let stderr = '';
  const looks = new Set<() => void>();
  const look = (): void => {
    for (const each of looks) each();
  };
  child.stdout.on('data', (chunk) => {
    stdout += chunk;
    look();
  });
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
    look();
  });
  let gone = false;
  const ended = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      gone = true;
      resolve({ code, signal });
      look();
    });
  });
  return {
    child,
    ended,
    get stdout() {
      return stdout;
    },
    get stderr() {
      return stderr;
    },
    printed: (text) =>
      new Promise((resolve, reject) => {
        const check = (): void => {
          const all = stdout + stderr;
          if (typeof text === 'string' ? all.includes(text) : text.test(all)) {
            looks.delete(check);
            resolve();
          } else if (gone) {
            looks.delete(check);
            reject(new Error(`Expected ${args.join(' ')} to print ${text}, got: ${all}`));
          }
        };
        looks.add(check);
        check();
      }),
    stop: async () => {
      if (!gone) child.kill('SIGTERM');
      await ended;
    },
    insist: async () => {
      await setTimeout(SAME_SIGNAL_MS + 50);
      child.kill('SIGTERM');
    },
  };
}

/** A server on a free port of 127.0.0.1. */
export interface ServeProcess extends CliProcess {
  readonly port: number;
}

/** Starts `cairn serve` on a free port with more options, and resolves when it listens. */
export async function startServe(options: readonly string[] = [], env: NodeJS.ProcessEnv = {}): Promise<ServeProcess> {
  const cli = startCli(['serve', '-l', '127.0.0.1', '-p', '-1', ...options], env);
  await cli.printed(/Listening on 127\.0\.0\.1:\d+/);
  const port = Number(/Listening on 127\.0\.0\.1:(\d+)/.exec(cli.stdout)?.[1]);
  return Object.defineProperty(cli, 'port', { value: port }) as ServeProcess;
}
