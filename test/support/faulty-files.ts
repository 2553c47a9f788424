// A disk in memory that fails like one, behind the log's `Files`.
//
// What is written is seen at once and durable at the next sync of its file; a name that is made, changed or removed is
// durable at the next sync of its directory. A power cut keeps, of what was not synced, whatever a real one might: each
// sector of 512 bytes on its own, in any of the versions that it has had since the last sync, each file's size
// likewise, and any part of the changes of names, in order or not. A failed sync leaves an unknown part on the disk and
// forgets what is missing, as Linux does: later syncs succeed, and the next power cut takes them. Until then the bytes
// are still read, or not (`forgetsAtOnce`): file systems differ.

import { constants } from 'node:os';
import { dirname, posix } from 'node:path';
import { getSystemErrorName } from 'node:util';
import type { Files, OpenFile } from '../../src/log/index.ts';
import type { Random } from './random.ts';

const SECTOR_BYTES = 512;

/** What a file call is about to do. */
export interface FileCall {
  readonly kind:
    | 'open'
    | 'read'
    | 'write'
    | 'allocate'
    | 'truncate'
    | 'sync'
    | 'rename'
    | 'remove'
    | 'list'
    | 'sync-directory';
  readonly path: string;
  /** Which call since the disk was made. */
  readonly index: number;
}

/** Errors that a file call may end with, by name; the disk throws each as Node does, which has no name for some. */
export const ERRNO = {
  EIO: constants.errno.EIO,
  ENOSPC: constants.errno.ENOSPC,
  ENOENT: constants.errno.ENOENT,
  EMFILE: constants.errno.EMFILE,
  EDQUOT: constants.errno.EDQUOT,
  ESTALE: constants.errno.ESTALE,
  EBADMSG: constants.errno.EBADMSG,
  /** Of a file system that has found its own structures damaged. Linux; Node has not even the number. */
  EUCLEAN: 117,
} as const;
export type Errno = keyof typeof ERRNO;

/** What becomes of it. `cut`: the power goes during it, and no file call works until `restart()`. */
export type Fate = 'ok' | 'cut' | Exclude<Errno, 'ENOENT'>;

/** Thrown by the call that the power cut meets, and all after it. No error of the system: no code may handle it. */
export class PowerCut extends Error {
  constructor() {
    super('The power is out');
  }
}

interface Inode {
  /** As it is seen. */
  content: Buffer;
  /** As it is on the disk. */
  durable: Buffer;
  /** By sector, what it has held since it was last synced: the last is what is seen. */
  dirty: Map<number, Buffer[]>;
  /** Sizes since the last sync. */
  sizes: number[];
  /** Offsets of sectors that cannot be read. */
  bad: number[];
}

/** A change of names that is not durable yet. */
interface NameChange {
  readonly directory: string;
  readonly from?: string;
  readonly to?: string;
  readonly inode: Inode;
}

export class FaultyDisk {
  readonly #random: Random;
  #names = new Map<string, Inode>();
  #durableNames = new Map<string, Inode>();
  #changes: NameChange[] = [];
  /** With what tells one from another of its name. */
  #directories = new Map<string, number>();
  #identities = new WeakMap<Inode, number>();
  #lastIdentity = 0;
  #generation = 0;
  #callCount = 0;
  #isOut = false;
  /** Says what becomes of each call. */
  fate: (call: FileCall) => Fate = () => 'ok';
  /** How many bytes are written by a write that fails: by default any number. */
  writtenOfFailed: (bytes: number) => number = (bytes) => this.#random.below(bytes);
  /** After a failed sync a file is seen as it is on the disk. */
  forgetsAtOnce = false;
  /** Bytes that all files together may have. */
  capacityBytes = Number.POSITIVE_INFINITY;

  constructor(random: Random) {
    this.#random = random;
  }

  get callCount(): number {
    return this.#callCount;
  }

  get isOut(): boolean {
    return this.#isOut;
  }

  get bytes(): number {
    let bytes = 0;
    for (const { content } of new Set(this.#names.values())) bytes += content.length;
    return bytes;
  }

  /** The process ends; the system, and what it has not written yet, goes on. */
  kill(): void {
    this.#generation++;
    this.#isOut = false;
  }

  /** The power goes, unless it is gone already, and comes back. */
  restart(): void {
    this.#generation++;
    this.#isOut = false;
    const inOrder = this.#random.below(2) === 0;
    const kept = inOrder ? this.#random.below(this.#changes.length + 1) : 0;
    this.#changes.forEach((change, i) => {
      if (inOrder ? i < kept : this.#random.below(2) === 0) applyChange(this.#durableNames, change);
    });
    this.#changes = [];
    this.#names = new Map(this.#durableNames);
    for (const inode of new Set(this.#names.values())) {
      this.#settle(inode);
      inode.content = Buffer.from(inode.durable);
    }
  }

  /** What a file has. */
  bytesOf(path: string): Buffer {
    return Buffer.from(this.#inode(path).content);
  }

  /** Puts a file there, durably, behind the back of the log that has it open. */
  put(path: string, bytes: Buffer): void {
    const inode = newInode();
    inode.content = Buffer.from(bytes);
    inode.durable = Buffer.from(bytes);
    this.#names.set(path, inode);
    this.#durableNames.set(path, inode);
  }

  /** Changes what a file that is open has. */
  overwrite(path: string, bytes: Buffer): void {
    const inode = this.#inode(path);
    inode.content = Buffer.from(bytes);
    inode.durable = Buffer.from(bytes);
  }

  /** Makes the sector at an offset one that cannot be read. */
  spoil(path: string, offset: number): void {
    this.#inode(path).bad.push(Math.floor(offset / SECTOR_BYTES) * SECTOR_BYTES);
  }

  /** Removes a file durably. */
  delete(path: string): void {
    this.#names.delete(path);
    this.#durableNames.delete(path);
  }

  /** Renames a directory with all that is in it, durably; without a new name removes it. */
  moveDirectory(from: string, to?: string): void {
    const identity = this.#directories.get(from);
    this.#directories.delete(from);
    if (to !== undefined && identity !== undefined) this.#directories.set(to, identity);
    for (const names of [this.#names, this.#durableNames]) {
      for (const [path, inode] of [...names]) {
        if (dirname(path) !== from) continue;
        names.delete(path);
        if (to !== undefined) names.set(posix.join(to, posix.basename(path)), inode);
      }
    }
  }

  #makeDirectory(path: string): void {
    if (!this.#directories.has(path)) this.#directories.set(path, ++this.#lastIdentity);
  }

  names(directory: string): string[] {
    return [...this.#names.keys()]
      .filter((path) => dirname(path) === directory)
      .map((path) => posix.basename(path))
      .sort();
  }

  /** Everything that is durable, to be put on another disk. */
  image(): Map<string, Buffer> {
    return new Map([...this.#names].map(([path, { content }]) => [path, Buffer.from(content)]));
  }

  static of(image: ReadonlyMap<string, Buffer>, random: Random): FaultyDisk {
    const disk = new FaultyDisk(random);
    for (const [path, bytes] of image) {
      disk.put(path, bytes);
      disk.#makeDirectory(dirname(path));
    }
    return disk;
  }

  /** The files, as a process sees them that begins now: it loses them at the next `kill()` or `restart()`. */
  files(): Files {
    const generation = this.#generation;
    const begin = (kind: FileCall['kind'], path: string): Fate => {
      if (generation !== this.#generation || this.#isOut) throw new PowerCut();
      const fate = this.fate({ kind, path, index: this.#callCount++ });
      // The power goes before, within or behind the call: what is not done here is left to restart().
      if (fate === 'cut') this.#isOut = true;
      return fate;
    };
    const simple = (kind: FileCall['kind'], path: string, action: () => void): void => {
      const fate = begin(kind, path);
      if (isError(fate)) throw systemError(fate, kind, path);
      if (fate === 'ok' || this.#random.below(2) === 0) action();
      if (fate === 'cut') throw new PowerCut();
    };
    return {
      makeDirectory: (path) => {
        if (generation !== this.#generation || this.#isOut) throw new PowerCut();
        this.#makeDirectory(path);
      },
      identify: (path) => {
        if (generation !== this.#generation || this.#isOut) throw new PowerCut();
        const directory = this.#directories.get(path);
        if (directory !== undefined) return `directory ${directory}`;
        const inode = this.#inode(path);
        const identity = this.#identities.get(inode) ?? ++this.#lastIdentity;
        this.#identities.set(inode, identity);
        return `file ${identity}`;
      },
      list: (directory) => {
        simple('list', directory, () => {});
        if (!this.#directories.has(directory)) throw systemError('ENOENT', 'list', directory);
        const folders = [...this.#directories.keys()].filter((path) => dirname(path) === directory);
        return [...this.names(directory), ...folders.map((path) => posix.basename(path))];
      },
      open: (path, mode) => {
        simple('open', path, () => {
          if (mode === 'create') this.#change({ directory: dirname(path), to: path, inode: newInode() });
        });
        return this.#openFile(path, this.#inode(path), begin);
      },
      rename: (from, to) => {
        simple('rename', from, () => this.#change({ directory: dirname(to), from, to, inode: this.#inode(from) }));
      },
      remove: (path) => {
        simple('remove', path, () => this.#change({ directory: dirname(path), from: path, inode: this.#inode(path) }));
      },
      syncDirectory: (path) => {
        simple('sync-directory', path, () => {
          for (const change of this.#changes) if (change.directory === path) applyChange(this.#durableNames, change);
          this.#changes = this.#changes.filter(({ directory }) => directory !== path);
        });
      },
    };
  }

  #openFile(path: string, inode: Inode, begin: (kind: FileCall['kind'], path: string) => Fate): OpenFile {
    const write = (kind: 'write' | 'allocate', bytes: Buffer, offset: number): void => {
      const fate = begin(kind, path);
      const growth = Math.max(0, offset + bytes.length - inode.content.length);
      const isFull = fate === 'ok' && this.bytes + growth > this.capacityBytes;
      const hasNoRoom = isFull || fate === 'ENOSPC' || fate === 'EDQUOT';
      // Of a write that fails any part may be done, but not all of it for want of room.
      const done = fate === 'ok' && !isFull ? bytes.length : this.writtenOfFailed(bytes.length + (hasNoRoom ? 0 : 1));
      this.#write(inode, bytes.subarray(0, done), offset);
      if (fate === 'cut') throw new PowerCut();
      if (isFull) throw systemError('ENOSPC', kind, path);
      if (isError(fate)) throw systemError(fate, kind, path);
    };
    return {
      size: () => inode.content.length,
      read: (target, offset) => {
        const fate = begin('read', path);
        if (fate === 'cut') throw new PowerCut();
        const isBad = inode.bad.some((bad) => bad < offset + target.length && offset < bad + SECTOR_BYTES);
        if (isError(fate)) throw systemError(fate, 'read', path);
        if (isBad) throw systemError('EIO', 'read', path);
        const there = inode.content.subarray(offset, offset + target.length);
        target.set(there);
        return there.length;
      },
      write: (pieces, offset) => write('write', Buffer.concat(pieces), offset),
      allocate: (offset, bytes) => write('allocate', Buffer.alloc(bytes), offset),
      truncate: (bytes) => {
        const fate = begin('truncate', path);
        if (isError(fate)) throw systemError(fate, 'truncate', path);
        if (fate === 'ok' || this.#random.below(2) === 0) this.#resize(inode, bytes);
        if (fate === 'cut') throw new PowerCut();
      },
      sync: () => {
        const fate = begin('sync', path);
        if (fate === 'ok') {
          // Not everything that is seen: what an earlier sync has failed to write is not dirty any more.
          const durable = Buffer.alloc(inode.content.length);
          inode.durable.copy(durable);
          for (const [sector, versions] of inode.dirty) versions.at(-1)!.copy(durable, sector * SECTOR_BYTES);
          inode.durable = durable;
          inode.dirty.clear();
          inode.sizes = [];
          return;
        }
        this.#settle(inode);
        if (this.forgetsAtOnce) inode.content = Buffer.from(inode.durable);
        if (fate === 'cut') throw new PowerCut();
        throw systemError(fate, 'sync', path);
      },
      close: () => {},
    };
  }

  #inode(path: string): Inode {
    const inode = this.#names.get(path);
    if (inode === undefined) throw systemError('ENOENT', 'open', path);
    return inode;
  }

  #change(change: NameChange): void {
    applyChange(this.#names, change);
    this.#changes.push(change);
  }

  #write(inode: Inode, bytes: Buffer, offset: number): void {
    if (bytes.length === 0) return;
    if (offset + bytes.length > inode.content.length) this.#resize(inode, offset + bytes.length);
    bytes.copy(inode.content, offset);
    this.#touch(inode, offset, offset + bytes.length);
  }

  #resize(inode: Inode, bytes: number): void {
    const before = inode.content;
    inode.content = Buffer.alloc(bytes);
    before.copy(inode.content);
    inode.sizes.push(bytes);
    // What was behind the end is gone for good, so that growing again shows zeros.
    if (bytes < before.length) this.#touch(inode, bytes, before.length);
  }

  #touch(inode: Inode, start: number, end: number): void {
    for (let sector = Math.floor(start / SECTOR_BYTES); sector * SECTOR_BYTES < end; sector++) {
      const versions = inode.dirty.get(sector) ?? [];
      const version = Buffer.alloc(SECTOR_BYTES);
      version.set(inode.content.subarray(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES));
      versions.push(version);
      inode.dirty.set(sector, versions);
    }
  }

  // Decides what of a file that was not synced is on the disk, and forgets the rest.
  #settle(inode: Inode): void {
    const size = this.#random.pick([inode.durable.length, ...inode.sizes, inode.content.length]);
    const durable = Buffer.alloc(size);
    inode.durable.copy(durable);
    for (const [sector, versions] of inode.dirty) {
      const version = this.#random.below(versions.length + 1);
      if (version > 0) versions[version - 1]!.copy(durable, sector * SECTOR_BYTES);
    }
    inode.durable = durable;
    inode.dirty.clear();
    inode.sizes = [];
  }
}

function newInode(): Inode {
  return { content: Buffer.alloc(0), durable: Buffer.alloc(0), dirty: new Map(), sizes: [], bad: [] };
}

function applyChange(names: Map<string, Inode>, { from, to, inode }: NameChange): void {
  if (from !== undefined && names.get(from) === inode) names.delete(from);
  if (to !== undefined) names.set(to, inode);
}

function isError(fate: Fate): fate is Exclude<Fate, 'ok' | 'cut'> {
  return fate !== 'ok' && fate !== 'cut';
}

// As libuv makes it: without an error name where libuv has none.
function systemError(name: Errno, call: string, path: string): Error {
  const errno = -ERRNO[name];
  const code = getSystemErrorName(errno);
  return Object.assign(new Error(`${code}: ${call} '${path}'`), { code, errno, syscall: call, path });
}
