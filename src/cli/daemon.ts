/**
 * What `-d`, `-P` and `-u` make of the process of a server, and the file with its ports. As memcached does it, with two
 * differences: the command with `-d` ends when the server listens, or with the error that kept it from that; and `-P`
 * needs no `-d`.
 *
 *   cairn serve -d  ->  spawns itself, detached, with another name  ->  prints what it says until it is ready, and ends
 */
import { execFileSync, spawn } from 'node:child_process';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { CairnError, reasonOf } from '../errors.ts';
import type { ServerAddress } from '../index.ts';

/** The name of the process in the background, by which it knows that it is the one. */
const DAEMON = 'cairn';

export const isDaemon = (): boolean => process.argv0 === DAEMON && process.send !== undefined;

/** Starts this command line in the background. Resolves to an exit code: 0 once the server is ready. */
export function startDaemon(): Promise<number> {
  const child = spawn(process.execPath, [...process.execArgv, ...process.argv.slice(1)], {
    argv0: DAEMON,
    detached: true,
    // Its output ends with this process, as a daemon's does.
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  child.stdout!.pipe(process.stdout);
  child.stderr!.pipe(process.stderr);
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])));
    // What it has printed before has come by the end of this turn.
    child.once('message', () => setImmediate(() => process.exit(0)));
  });
}

/** Lets the command that started this process end. */
export function tellReady(): void {
  process.send!('ready', () => process.disconnect());
}

/** With what the types of Node leave out. */
interface Process extends NodeJS.Process {
  initgroups?(user: string, group: number): void;
}

/** Drops the rights of root. Has no effect for anybody else, as in memcached. Throws for an unknown user. */
export function becomeUser(user: string): void {
  if (process.getuid?.() !== 0) return;
  try {
    const group = Number(
      execFileSync('id', ['-g', '--', user], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }),
    );
    (process as Process).initgroups!(user, group);
    process.setgid!(group);
    process.setuid!(user);
  } catch (cause) {
    throw new CairnError(
      'ERR_INVALID_ARGUMENT',
      `Expected -u to be a user of this system, got ${JSON.stringify(user)}`,
      {
        cause,
      },
    );
  }
}

/** Writes a file, which no reader sees in parts. Returns why not. */
function writeWhole(file: string, text: string): string | undefined {
  try {
    writeFileSync(`${file}.lck`, text);
    renameSync(`${file}.lck`, file);
    return undefined;
  } catch (error) {
    return `${file} cannot be written: ${reasonOf(error)}`;
  }
}

/** `-P`: the number of this process, until it ends. Returns why not. */
export function keepPidFile(file: string): string | undefined {
  const complaint = writeWhole(file, `${process.pid}\n`);
  if (complaint === undefined) process.once('exit', () => rmSync(file, { force: true }));
  return complaint;
}

/** `MEMCACHED_PORT_FILENAME`: the ports that the system has chosen, in memcached's words. Returns why not. */
export function writePorts(file: string, addresses: readonly ServerAddress[]): string | undefined {
  const lines = addresses.map((address) =>
    'port' in address
      ? `${address.udp ? 'UDP' : 'TCP'} ${address.host.includes(':') ? 'INET6' : 'INET'}: ${address.port}\n`
      : '',
  );
  return writeWhole(file, lines.join(''));
}
