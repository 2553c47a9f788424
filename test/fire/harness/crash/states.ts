// What a disk may hold after the power went at some moment of a trace. Everything synced is there: the content of a
// file since the file's last sync, the names of a directory since the directory's. Of all later steps any subset may be
// there, in the order of the trace, and of a write any of its sectors.
//
// The rules are those of T. S. Pillai et al., "All file systems are not created equal" (OSDI 2014), for a file system
// that orders nothing by itself.

import { dirname } from 'node:path';
import type { Random } from '../../../support/random.ts';
import type { Step } from './trace.ts';

const SECTOR_BYTES = 512;

export type Change = Exclude<Step, { kind: 'sync' | 'sync-directory' | 'mark' }>;

/** The disk at one moment: what is certain, and what may be there besides. */
export class Moment {
  readonly #durable: Disk;
  /** Steps that no sync has covered, in their order. */
  readonly pending: readonly Change[];

  constructor(durable: Disk, pending: readonly Change[]) {
    this.#durable = durable;
    this.pending = pending;
  }

  /** The files, if exactly these pending steps reached the disk. `torn`: of each kept write only some sectors did. */
  state(kept: (index: number) => boolean, torn?: Random): Map<string, Buffer> {
    const disk = this.#durable.copy();
    for (const [i, change] of this.pending.entries()) {
      if (!kept(i)) continue;
      if (torn === undefined || change.kind !== 'write') disk.apply(change);
      else for (const part of sectorsOf(change)) if (torn.below(2) === 0) disk.apply(part);
    }
    return disk.files();
  }
}

/**
 * The moment after each prefix of a trace, the empty one first; `at` is how many steps that is. A moment is valid until
 * the next one is asked for.
 */
export function* moments(steps: readonly Step[]): Generator<{ readonly at: number; readonly moment: Moment }> {
  const durable = new Disk();
  let pending: Change[] = [];
  yield { at: 0, moment: new Moment(durable, pending) };
  for (const [i, step] of steps.entries()) {
    if (step.kind === 'mark') continue;
    if (step.kind === 'sync' || step.kind === 'sync-directory') {
      const isCovered = (change: Change): boolean =>
        step.kind === 'sync'
          ? (change.kind === 'write' || change.kind === 'truncate') && change.inode === step.inode
          : (change.kind === 'link' || change.kind === 'unlink') && dirname(change.path) === step.path;
      for (const change of pending) if (isCovered(change)) durable.apply(change);
      pending = pending.filter((change) => !isCovered(change));
    } else pending = [...pending, step];
    yield { at: i + 1, moment: new Moment(durable, pending) };
  }
}

function sectorsOf(write: Extract<Change, { kind: 'write' }>): Extract<Change, { kind: 'write' }>[] {
  const parts = [];
  for (let from = 0; from < write.bytes.length; ) {
    const offset = write.offset + from;
    const to = Math.min(write.bytes.length, from + SECTOR_BYTES - (offset % SECTOR_BYTES));
    parts.push({ ...write, offset, bytes: write.bytes.subarray(from, to) });
    from = to;
  }
  return parts;
}

class Disk {
  readonly #names: Map<string, number>;
  readonly #contents: Map<number, Buffer>;
  /** Inodes whose buffer no copy of this disk has. */
  readonly #own = new Set<number>();

  constructor(names: ReadonlyMap<string, number> = new Map(), contents: ReadonlyMap<number, Buffer> = new Map()) {
    this.#names = new Map(names);
    this.#contents = new Map(contents);
  }

  copy(): Disk {
    this.#own.clear();
    return new Disk(this.#names, this.#contents);
  }

  apply(change: Change): void {
    switch (change.kind) {
      case 'link':
        if (change.from !== undefined && this.#names.get(change.from) === change.inode) {
          this.#names.delete(change.from);
        }
        this.#names.set(change.path, change.inode);
        break;
      case 'unlink':
        if (this.#names.get(change.path) === change.inode) this.#names.delete(change.path);
        break;
      case 'truncate':
        this.#replace(change.inode, change.size);
        break;
      case 'write': {
        const { inode, offset, bytes } = change;
        const size = this.#contents.get(inode)?.length ?? 0;
        const end = offset + bytes.length;
        if (size < end || !this.#own.has(inode)) this.#replace(inode, Math.max(size, end));
        bytes.copy(this.#contents.get(inode)!, offset);
        break;
      }
    }
  }

  files(): Map<string, Buffer> {
    return new Map([...this.#names].map(([path, inode]) => [path, this.#contents.get(inode) ?? Buffer.alloc(0)]));
  }

  #replace(inode: number, size: number): void {
    const content = Buffer.alloc(size);
    this.#contents.get(inode)?.copy(content);
    this.#contents.set(inode, content);
    this.#own.add(inode);
  }
}
