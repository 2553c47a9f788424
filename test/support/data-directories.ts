// Directories for caches with a log, removed when the tests of the file are over.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach } from 'vitest';
import { handleOf } from '../../src/cache.ts';
import { Cache, type CacheOptions } from '../../src/index.ts';
import { LogKeeper } from '../../src/scribe/index.ts';

/** For one file of tests: `const data = new DataDirectories('name')`. */
export class DataDirectories {
  readonly root: string;
  #count = 0;
  #open: Cache[] = [];

  constructor(name: string) {
    this.root = mkdtempSync(join(tmpdir(), `cairn-${name}-`));
    // What a test that has failed has left open.
    afterEach(async () => {
      for (const cache of this.#open.splice(0)) await cache.destroy().catch(() => {});
    });
    afterAll(() => rmSync(this.root, { recursive: true, force: true }));
  }

  /** A directory that is not there yet. */
  fresh(): string {
    return join(this.root, String(++this.#count));
  }

  async open<V = unknown>(data: string, options: CacheOptions = {}): Promise<Cache<V>> {
    const cache = await Cache.open<V>({ data, ...options });
    this.#open.push(cache as Cache);
    return cache;
  }

  /** Ends a cache as a crash of its thread does: nothing is written any more, the log is not closed. */
  async crash(cache: Cache): Promise<void> {
    const keeper = keeperOf(cache);
    // Otherwise it would be a warning.
    cache.on('log', () => {});
    for (let deaths = 0; deaths < 2; deaths++) await endThread(keeper);
    await cache.destroy().catch(() => {});
  }
}

/** Does something that the log may not keep up with, until it does. */
export async function patiently(cache: Cache<never> | Cache, write: () => unknown): Promise<void> {
  for (;;) {
    try {
      write();
      return;
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'ERR_LOG_FULL') throw error;
      await cache.sync();
    }
  }
}

export function keeperOf(cache: Cache<never> | Cache): LogKeeper {
  return LogKeeper.of(handleOf(cache as Cache<never>).cacheId)!;
}

/** Ends the thread that writes the log, and waits until it is gone. */
export async function endThread(keeper: LogKeeper): Promise<void> {
  while (keeper.thread === undefined) await new Promise((resolve) => setTimeout(resolve, 1));
  await keeper.thread.terminate();
}
