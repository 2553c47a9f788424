/**
 * One process at a time in a log's directory. The file `lock` names its owner by pid, boot and start of the process, so
 * that a lock which a crash left behind is told from a living owner, even if the pid was given out again.
 *
 * Processes that do not see each other's pids (containers over one volume) need the lock of the operating system: pass a
 * `LockDirectory` that takes it.
 */
import { randomBytes } from 'node:crypto';
import { linkSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { kill, pid } from 'node:process';
import { CairnError } from '../errors.ts';
import { systemCode } from './files.ts';

export interface DirectoryLock {
  /** Gives the directory up. May be called twice. */
  release(): void;
}

/** Takes a directory, or throws `ERR_LOG_LOCKED` with the pid of who has it. */
export type LockDirectory = (directory: string) => DirectoryLock;

/** Who has a lock. `start` is empty where the system does not say when a process began. */
interface Owner {
  readonly pid: number;
  readonly boot: string;
  readonly start: string;
}

/** Locks by a file with the owner's pid. */
export const lockByFile: LockDirectory = (directory) => {
  const path = join(directory, 'lock');
  const mine = describe({ pid, boot: bootId(), start: startOf(pid) });
  // Each turn either takes the lock, or throws, or has removed one whose owner is gone.
  for (let turn = 0; turn < 8; turn++) {
    if (createWhole(path, mine)) return heldLock(path, mine);
    const found = readIfThere(path);
    if (found === undefined) continue;
    const owner = parse(found);
    // A lock that says nothing is one whose content a power cut has taken.
    if (owner !== undefined && isAlive(owner)) throw locked(directory, path, owner);
    removeIfStill(path, found);
  }
  throw locked(directory, path, undefined);
};

function heldLock(path: string, mine: string): DirectoryLock {
  let isHeld = true;
  return {
    release() {
      if (!isHeld) return;
      isHeld = false;
      // Somebody may have removed it by hand and taken the directory: that lock is not ours to remove.
      removeIfStill(path, mine);
    },
  };
}

function locked(directory: string, path: string, owner: Owner | undefined): CairnError {
  const who = owner === undefined ? 'a process that its lock file does not name' : `process ${owner.pid}`;
  return new CairnError(
    'ERR_LOG_LOCKED',
    `The log in ${directory} is in use by ${who}. If that is certainly not so, remove ${path}`,
  );
}

/** Makes a file that is there with its content or not at all. False: there is one. */
function createWhole(path: string, content: string): boolean {
  const aside = asideOf(path);
  try {
    writeFileSync(aside, content, { flag: 'wx', mode: 0o600 });
    linkSync(aside, path);
    return true;
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false;
    throw error;
  } finally {
    rmSync(aside, { force: true });
  }
}

function asideOf(path: string): string {
  return `${path}.${pid}-${randomBytes(6).toString('hex')}`;
}

/** Removes the file if it still says the same: what is in the way is moved aside first, and looked at there. */
function removeIfStill(path: string, content: string): void {
  const aside = asideOf(path);
  try {
    renameSync(path, aside);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return;
    throw error;
  }
  if (readIfThere(aside) !== content) {
    // Somebody was faster, and this is their lock.
    try {
      linkSync(aside, path);
    } catch (error) {
      if (systemCode(error) !== 'EEXIST') throw error;
    }
  }
  rmSync(aside, { force: true });
}

function describe(owner: Owner): string {
  return `cairn-cache log\npid ${owner.pid}\nboot ${owner.boot}\nstart ${owner.start}\n`;
}

function parse(text: string): Owner | undefined {
  const [, id, boot = '', start = ''] = /^cairn-cache log\npid (\d+)\nboot (.*)\nstart (.*)\n$/.exec(text) ?? [];
  return id === undefined ? undefined : { pid: Number(id), boot, start };
}

function isAlive(owner: Owner): boolean {
  if (owner.boot !== bootId()) return false;
  try {
    kill(owner.pid, 0);
  } catch (error) {
    // EPERM: it is there and belongs to another user.
    if (systemCode(error) === 'ESRCH') return false;
  }
  return owner.start === '' || owner.start === startOf(owner.pid);
}

/** What changes with every boot; empty where there is nothing of the kind. */
function bootId(): string {
  return readIfThere('/proc/sys/kernel/random/boot_id')?.trim() ?? '';
}

/** When a process began, in ticks since the boot; empty where the system does not say it. */
function startOf(process: number): string {
  const stat = readIfThere(`/proc/${process}/stat`);
  // The name of the program, in brackets, may contain anything.
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}
