/**
 * A process under fire: it is started on a directory, killed, stopped for a while, or asked to end. Its output is kept,
 * because nothing else would say why it died.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { sleep } from './sleep.ts';

/** A process without a sign of life for this time is taken to hang. */
export const PATIENCE_MS = 60_000;
/** The end of a process is known this long after that of its connections, at most. */
const END_MS = 1000;

export interface ProcessOptions {
  readonly command: string;
  readonly args: readonly string[];
  /** What it has beside the environment of this process; undefined: it has not. */
  readonly environment?: NodeJS.ProcessEnv | undefined;
  /** Finds the port that it listens on in its output. */
  readonly portPattern?: RegExp | undefined;
  /** A Ctrl-C in the terminal is not for it. */
  readonly isDetached?: boolean | undefined;
}

/** Whether a process can be stopped for a while here. */
export const canPause: boolean = process.platform !== 'win32';

export class ServerProcess {
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  /** While it is stopped: kills it if this process ends. A stopped process notices nothing itself. */
  #guard: { readonly stdin: Writable } | undefined;
  #output = '';
  #isKilled = false;
  #isStopped = false;
  #hasEnded = false;
  #port: number | undefined;
  #look: (() => void) | undefined;

  constructor(options: ProcessOptions) {
    const { command, args, environment, isDetached = false } = options;
    const { portPattern = /Listening on 127\.0\.0\.1:(\d+)/ } = options;
    this.#child = spawn(command, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, npm_lifecycle_event: '', ...environment },
      detached: isDetached && canPause,
    });
    const take = (chunk: Buffer): void => {
      this.#output = (this.#output + chunk).slice(-20_000);
      if (this.#port === undefined) {
        const [, port] = portPattern.exec(this.#output) ?? [];
        if (port !== undefined) this.#port = Number(port);
      }
      this.#look?.();
    };
    this.#child.stdout!.on('data', take);
    this.#child.stderr!.on('data', take);
    // Of one that is killed.
    this.#child.stdin!.on('error', () => {});
    this.#ended = once(this.#child, 'close').then(() => {
      this.#hasEnded = true;
      this.#look?.();
    });
  }

  /** Everything it has printed, its end at least. */
  get output(): string {
    return this.#output;
  }

  /** What has become of it, and what it has printed. */
  async account(): Promise<string> {
    await Promise.race([this.#ended, sleep(END_MS)]);
    const { exitCode, signalCode } = this.#child;
    return `The server ${this.#hasEnded ? `ended with ${exitCode ?? signalCode}` : 'runs'}:\n${this.#output}`;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Resolves to the port once it listens. Rejects if it ends instead, or says nothing for too long. */
  async ready(): Promise<number> {
    const limit = setTimeout(() => this.#look?.(), PATIENCE_MS);
    const start = performance.now();
    try {
      while (this.#port === undefined) {
        if (this.#hasEnded) throw new Error(`It ended before it listened:\n${this.#output}`);
        if (performance.now() - start >= PATIENCE_MS) throw new Error(`It does not come to listen:\n${this.#output}`);
        await new Promise<void>((resolve) => {
          this.#look = resolve;
        });
      }
    } finally {
      clearTimeout(limit);
    }
    return this.#port;
  }

  /** A line on its standard input. */
  say(line: string): void {
    this.#child.stdin!.write(`${line}\n`);
  }

  /** SIGSTOP: it does nothing until `resume`. */
  pause(): void {
    if (this.#hasEnded) return;
    const guard = spawn('sh', ['-c', 'read -r word || kill -9 "$1"', 'sh', String(this.#child.pid)], {
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
    });
    guard.stdin.on('error', () => {});
    this.#guard = guard;
    this.#child.kill('SIGSTOP');
  }

  /** None of its threads runs, as far as the system tells; true also once it has ended. */
  get isPaused(): boolean {
    return this.#hasEnded || statesOf(this.#child.pid!).every((state) => /^[TtZX]/.test(state));
  }

  resume(): void {
    this.#child.kill('SIGCONT');
    this.#guard?.stdin.end('resumed\n');
    this.#guard = undefined;
  }

  /** SIGTERM, or a line for the actor; resolves to its exit code. */
  async stop(how: 'signal' | 'stop' | 'exit'): Promise<number | null> {
    this.askToStop(how);
    const limit = setTimeout(() => this.#child.kill('SIGKILL'), PATIENCE_MS);
    await this.#ended;
    clearTimeout(limit);
    return this.#child.exitCode;
  }

  askToStop(how: 'signal' | 'stop' | 'exit'): void {
    this.#isStopped = true;
    if (how === 'signal') this.#child.kill('SIGTERM');
    else this.say(how);
  }

  /** kill -9; resolves when nothing of it runs. */
  async kill(): Promise<void> {
    this.#isKilled = true;
    this.#child.kill('SIGKILL');
    await this.#ended;
    this.#guard?.stdin.end('killed\n');
    this.#guard = undefined;
  }

  /** It has ended, and not because it was told to. */
  get diedByItself(): boolean {
    if (!this.#hasEnded) return false;
    const { exitCode, signalCode } = this.#child;
    if (this.#isKilled && signalCode === 'SIGKILL') return false;
    return !(this.#isStopped && exitCode === 0);
  }
}

// Of the threads of a process, the letters that `ps` has for them; none where the system does not tell.
function statesOf(pid: number): readonly string[] {
  if (process.platform !== 'linux') {
    const { stdout } = spawnSync('ps', ['-o', 'stat=', '-p', String(pid)], { encoding: 'latin1' });
    return (stdout ?? '').split('\n').flatMap((line) => line.trim() || []);
  }
  const tasks = `/proc/${pid}/task`;
  try {
    return readdirSync(tasks).map((task) => {
      const stat = readFileSync(`${tasks}/${task}/stat`, 'latin1');
      // Behind the name, which is in parentheses and may have any.
      return stat.slice(stat.lastIndexOf(')') + 2);
    });
  } catch {
    // A thread has just ended: another look will tell.
    return ['R'];
  }
}
