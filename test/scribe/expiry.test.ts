// Entries that expired while no process ran stay away, and entries that were touched live.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Cache } from '../../src/index.ts';

let data: string;

beforeEach(() => {
  data = mkdtempSync(join(tmpdir(), 'cairn-expiry-'));
});

afterEach(() => {
  rmSync(data, { recursive: true });
});

const open = (): Promise<Cache> => Cache.open({ data, shards: 2, snapshot: { every: 0, atClose: false } });

test.each([false, true])(
  'an entry that was touched lives, though its first time is over (snapshot: %s)',
  async (snap) => {
    let cache = await open();
    let overAt: number;
    // On a busy machine its first time may be over before it is touched.
    do {
      cache.set('gone', 1, { ttl: 2000 });
      cache.set('touched', 1, { ttl: 2000 });
      cache.set('shortened', 1, { ttl: 3_600_000 });
      overAt = Date.now() + 2010;
      if (snap) await cache.snapshot();
    } while (!cache.touch('touched', 3_600_000));
    expect(cache.touch('shortened', 10)).toBe(true);
    await cache.close();
    await vi.waitUntil(() => Date.now() > overAt, { timeout: 60_000 });
    // Twice: the second time there is more than one epoch in the log.
    for (let time = 0; time < 2; time++) {
      cache = await open();
      expect(cache.get('touched')).toBe(1);
      expect(cache.getRemainingTTL('touched')).toBeGreaterThan(3_000_000);
      expect(cache.get('gone')).toBeUndefined();
      expect(cache.get('shortened')).toBeUndefined();
      await cache.close();
    }
  },
);
