// A process with a cache whose log lies on a disk of the test's choice, most often one in memory. The scribe is in this
// thread and moves when it is turned, so that a crash comes exactly when a test wants it.

import { Cache } from '../../src/index.ts';
import type { Files, LogClock, SyncPolicy } from '../../src/log/index.ts';
import { type FeedHandle, feedOf, native } from '../../src/native.ts';
import { openEmbeddedLog } from '../../src/scribe/embedded.ts';
import { CONTROL_WORDS, type Command, type Report } from '../../src/scribe/message.ts';
import type { Scribe } from '../../src/scribe/scribe.ts';
import { startScribe } from '../../src/scribe/start.ts';

const NAME = 'on-disk';

/** A disk, as one process sees it. */
export interface Disk {
  files(): Files;
}

export interface ProcessOptions {
  /** Default /data. */
  readonly directory?: string;
  /** Default 2. */
  readonly shards?: number;
  readonly sync?: SyncPolicy;
  readonly segmentBytes?: number;
  readonly clock?: LogClock;
}

export class ProcessOnDisk {
  readonly cache: Cache<string>;
  readonly feed: FeedHandle;
  /** What is told to the scribe, and what it has told. */
  readonly commands: Command[] = [];
  readonly reports: Report[] = [];
  readonly #scribe: Scribe;
  readonly #owner: { close(): void };

  /** Opens the log, which recovers. Throws what opening throws, and nothing is left open then. */
  constructor(disk: Disk, options: ProcessOptions = {}) {
    const { directory = '/data', shards: shardCount = 2, sync = 'always', segmentBytes = 2 ** 20, clock } = options;
    const owner = native.openCache({
      ...{ name: NAME, description: JSON.stringify({ ack: 'logged' }), join: false, ready: false, ttlMs: 0 },
      ...{ memoryBytes: 2 ** 25, memoryBytesCeiling: 2 ** 25, entriesMax: 0, shardCount },
      ...{ valueBytesMax: 2 ** 20, ringBytes: 2 ** 20, trackAccess: false, siphash: false },
    });
    if (typeof owner === 'number') throw new Error(`The cache cannot be opened: ${owner}, ${native.takeMessage()}`);
    this.#owner = owner;
    this.feed = feedOf(owner)!;
    try {
      this.#scribe = startScribe({
        handle: this.feed,
        data: {
          cacheId: owner.cacheId,
          directory,
          sync,
          segmentBytes,
          limitBytes: 2 ** 30,
          snapshots: { everyMs: 0, logBytes: 2 ** 40, isTakenAtClose: false },
          start: 'log',
          control: new SharedArrayBuffer(4 * CONTROL_WORDS),
        },
        openLog: openEmbeddedLog(disk.files()),
        clock: clock ?? { wallMs: () => Date.now(), steadyMs: () => performance.now() },
        hear: () => this.commands.shift(),
        say: (report) => void this.reports.push(report),
      });
      this.cache = Cache.attach<string>(NAME);
    } catch (error) {
      owner.close();
      throw error;
    }
  }

  /** The log takes what the rings have, as it would by itself a moment later. */
  turn(): void {
    this.feed.poke();
    this.#scribe.turn();
  }

  /** The memory goes, without a word to the disk. May be called again. */
  end(): void {
    void this.cache.close();
    this.#owner.close();
  }
}
