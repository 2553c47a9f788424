/**
 * The file calls that a log makes, and no others: all of them synchronous, because the log has its own thread and must
 * not share libuv's pool. Tests put their own disk behind the same interface (test/support/faulty-files.ts).
 *
 * Every method throws what the system says; systemCode() names it.
 */
import {
  closeSync,
  fdatasyncSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  statSync,
  unlinkSync,
  writevSync,
} from 'node:fs';
import { constants } from 'node:os';
import { dirname } from 'node:path';

export interface Files {
  /** Makes a directory with its parents, for this user only, if it is not there; durably. */
  makeDirectory(path: string): void;
  /** Says which file or directory has a name: the same text as long as it is the same one. */
  identify(path: string): string;
  /** The names in a directory, in any order. */
  list(directory: string): string[];
  /** `create`: a new and empty file, in the place of one that is there. The others: `ENOENT` if there is none. */
  open(path: string, mode: 'create' | 'update' | 'read'): OpenFile;
  rename(from: string, to: string): void;
  remove(path: string): void;
  /** Makes durable what names a directory has. */
  syncDirectory(path: string): void;
}

export interface OpenFile {
  size(): number;
  /** Reads into `target` from an offset of the file on. Less than fits only at the file's end. */
  read(target: Uint8Array, offset: number): number;
  /** Writes all pieces one behind the other. When it throws, any part may have been written. */
  write(pieces: readonly Uint8Array[], offset: number): void;
  /**
   * Makes [offset, offset + bytes) zeros that take room on the disk, so that writing there does not meet a full one.
   */
  allocate(offset: number, bytes: number): void;
  truncate(bytes: number): void;
  /**
   * Makes durable what was written, and the size. After a failure nothing is known of any byte written since the last.
   */
  sync(): void;
  /** May be called twice. */
  close(): void;
}

/** The names of this system's error numbers. Node has no name for some: for those, `code` is a sentence. */
const ERROR_NAMES: ReadonlyMap<number, string> = new Map([
  // Not in `os.constants`: Linux, in <errno.h>.
  ...(process.platform === 'linux'
    ? ([
        [117, 'EUCLEAN'],
        [121, 'EREMOTEIO'],
      ] as const)
    : []),
  ...Object.entries(constants.errno).map(([name, number]): [number, string] => [number, name]),
]);

/**
 * What error of the system it is: `ENOSPC`, `EIO`, ...; `E` and its number for one without a name. Undefined for
 * anything that is no error of the system. The number decides: libuv knows not all that a file system may answer, and
 * names the rest `Unknown system error -122`.
 */
export function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code, errno } = error as NodeJS.ErrnoException;
  if (typeof code === 'string' && /^E[A-Z0-9]+$/.test(code)) return code;
  if (typeof errno !== 'number' || !(errno < 0)) return undefined;
  return ERROR_NAMES.get(-errno) ?? `E${-errno}`;
}

/** The error itself, with its name of {@link systemCode} where Node has none: for a notice, which people read. */
export function named(error: unknown): unknown {
  const code = systemCode(error);
  if (code === undefined || (error as NodeJS.ErrnoException).code === code) return error;
  const system = error as NodeJS.ErrnoException;
  system.message = system.message.replace(/^(Unknown system error -\d+: )?Unknown system error -\d+/, code);
  system.code = code;
  return system;
}

/** The disk is full, or this user's share of it. */
export function isNoSpace(error: unknown): boolean {
  const code = systemCode(error);
  return code === 'ENOSPC' || code === 'EDQUOT';
}

/**
 * What the disk has there cannot be read, and will not be by trying again: its own words (EIO), or those of a file
 * system that has checked its sums. Any other error says nothing about the bytes.
 */
export function isUnreadable(error: unknown): boolean {
  const code = systemCode(error);
  return code !== undefined && UNREADABLE.has(code);
}

const UNREADABLE: ReadonlySet<string> = new Set(['EIO', 'EBADMSG', 'EUCLEAN', 'EREMOTEIO', 'ENODATA']);

/** Opens a file for reading. Undefined: there is none. */
export function openIfThere(files: Files, path: string): OpenFile | undefined {
  try {
    return files.open(path, 'read');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Zeros are written in pieces of this size. */
const ZEROS = Buffer.alloc(256 * 1024);

class NodeFile implements OpenFile {
  readonly #descriptor: number;
  #isOpen = true;

  constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  size(): number {
    return fstatSync(this.#descriptor).size;
  }

  read(target: Uint8Array, offset: number): number {
    let done = 0;
    while (done < target.length) {
      const count = readSync(this.#descriptor, target, done, target.length - done, offset + done);
      if (count === 0) break;
      done += count;
    }
    return done;
  }

  write(pieces: readonly Uint8Array[], offset: number): void {
    let total = 0;
    for (const piece of pieces) total += piece.length;
    let done = writevSync(this.#descriptor, pieces, offset);
    while (done < total) done += writevSync(this.#descriptor, rest(pieces, done), offset + done);
  }

  allocate(offset: number, bytes: number): void {
    for (let done = 0; done < bytes; done += ZEROS.length) {
      this.write([ZEROS.subarray(0, Math.min(ZEROS.length, bytes - done))], offset + done);
    }
  }

  truncate(bytes: number): void {
    ftruncateSync(this.#descriptor, bytes);
  }

  sync(): void {
    fdatasyncSync(this.#descriptor);
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    closeSync(this.#descriptor);
  }
}

/** What is left of some pieces behind their first bytes. */
function rest(pieces: readonly Uint8Array[], bytes: number): Uint8Array[] {
  const left: Uint8Array[] = [];
  let skip = bytes;
  for (const piece of pieces) {
    if (skip < piece.length) left.push(piece.subarray(skip));
    skip = Math.max(0, skip - piece.length);
  }
  return left;
}

const FLAGS = { create: 'w+', update: 'r+', read: 'r' } as const;

/** The files of this machine. */
export const nodeFiles: Files = {
  makeDirectory: (path) => makeDirectory(path),
  identify: (path) => {
    const { dev, ino } = statSync(path, { bigint: true });
    return `${dev} ${ino}`;
  },
  list: (directory) => readdirSync(directory),
  open: (path, mode) => new NodeFile(openSync(path, FLAGS[mode], 0o600)),
  rename: renameSync,
  remove: unlinkSync,
  syncDirectory,
};

// With the folders above it. Not Node's `recursive`, which never returns where a folder can neither be made nor be
// there, as in /proc.
function makeDirectory(path: string, isSecondTry = false): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EEXIST' || code === 'EISDIR') {
      readdirSync(path); // It may be a file.
      return;
    }
    if (code !== 'ENOENT' || isSecondTry || dirname(path) === path) throw error;
    makeDirectory(dirname(path));
    makeDirectory(path, true);
    return;
  }
  syncDirectory(dirname(path));
}

function syncDirectory(path: string): void {
  // Windows has no such call: there the file system's own journal orders names.
  if (process.platform === 'win32') return;
  const descriptor = openSync(path, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}
