/**
 * The changes that the database has refused and of which no dead letter is kept, as a cache of mode `write-through` has
 * them: `store-refused.jsonl` in the directory of the log; of a named one of several databases
 * `store-refused.NAME.jsonl`. The log has the records, and a cache that begins with them after a crash would have the
 * refused values again. So it looks here, and lets go of them.
 *
 * A change is here, synced, before its caller is told and before its dead letter is dropped. It is taken out when the
 * log no longer has its record.
 */
import { dirname, join } from 'node:path';
import { type Files, nodeFiles, type Position } from '../log/index.ts';
import { DEFAULT_STORE } from '../rules/index.ts';

/** The name of the file of a database. Each has a thread that writes it. */
function fileOf(store: string): string {
  return store === DEFAULT_STORE ? 'store-refused.jsonl' : `store-refused.${store}.jsonl`;
}

/** Changes that come before those that the log has forgotten are taken out. */
const PRUNE_AFTER = 1000;

export interface RefusedChange {
  readonly key: Buffer;
  readonly version: bigint;
  /** The record lies before it in the log. */
  readonly position: Position;
}

/** Where the log begins and ends. */
export interface LogSpan {
  readonly oldestReadable: Position;
  readonly end: Position;
}

export class RefusedChanges {
  readonly #name: string;
  readonly #path: string;
  readonly #log: LogSpan;
  readonly #files: Files;
  #all: RefusedChange[];
  #isThere: boolean;
  #sinceBegun = 0;

  constructor(directory: string, log: LogSpan, files: Files = nodeFiles, store: string = DEFAULT_STORE) {
    this.#name = fileOf(store);
    this.#path = join(directory, this.#name);
    this.#log = log;
    this.#files = files;
    const found = this.#read();
    this.#all = found ?? [];
    this.#isThere = found !== undefined;
    // Also ends a last line that a crash has cut.
    if (this.#isThere) this.#prune();
  }

  /** Those whose records the log may have. */
  get all(): readonly RefusedChange[] {
    return this.#all;
  }

  /** Keeps a change, synced. Throws the error of a disk that does not take it. */
  add(key: Buffer, version: bigint): void {
    const change = { key, version, position: this.#log.end };
    this.#all.push(change);
    if (++this.#sinceBegun % PRUNE_AFTER === 0) {
      this.#prune();
      return;
    }
    const file = this.#files.open(this.#path, this.#isThere ? 'update' : 'create');
    try {
      file.write([lineOf(change)], file.size());
      file.sync();
    } finally {
      file.close();
    }
    if (this.#isThere) return;
    this.#files.syncDirectory(dirname(this.#path));
    this.#isThere = true;
  }

  #prune(): void {
    const oldest = this.#log.oldestReadable;
    const kept = this.#all.filter(({ position }) => position > oldest);
    this.#all = kept;
    const fresh = `${this.#path}.new`;
    const file = this.#files.open(fresh, 'create');
    try {
      file.write(kept.map(lineOf), 0);
      file.sync();
    } finally {
      file.close();
    }
    this.#files.rename(fresh, this.#path);
    this.#files.syncDirectory(dirname(this.#path));
  }

  // A crash may have cut the last line, whose change was told to no caller: its dead letter is there.
  #read(): RefusedChange[] | undefined {
    if (!this.#files.list(dirname(this.#path)).includes(this.#name)) return undefined;
    const file = this.#files.open(this.#path, 'read');
    const bytes = Buffer.alloc(file.size());
    try {
      file.read(bytes, 0);
    } finally {
      file.close();
    }
    return bytes
      .toString('latin1')
      .split('\n')
      .slice(0, -1)
      .map((line) => {
        const [key, version, position] = JSON.parse(line) as [string, string, string];
        return { key: Buffer.from(key, 'base64'), version: BigInt(version), position: BigInt(position) };
      });
  }
}

function lineOf({ key, version, position }: RefusedChange): Buffer {
  return Buffer.from(`${JSON.stringify([key.toString('base64'), `${version}`, `${position}`])}\n`);
}
