// What a thread asks of the scribe beside syncs and snapshots: where the log is, cursors in it, and what another thread
// reads its files with. From the thread that has opened the cache, and from one that has attached.

import { describe, expect, test } from 'vitest';
import type { Cache } from '../../src/index.ts';
import { LogReader, type Position } from '../../src/log/index.ts';
import { feedOf, native } from '../../src/native.ts';
import { type LogFiles, type LogKeeper, RemoteScribe } from '../../src/scribe/index.ts';
import { DataDirectories, endThread, keeperOf } from '../support/data-directories.ts';
import { withCode } from '../support/errors.ts';
import { keysOf } from '../support/logs.ts';

const data = new DataDirectories('commands');

/** The files as another thread gets them. */
function filesOf(keeper: LogKeeper): LogFiles {
  return structuredClone(keeper.files!);
}

function keysBefore(files: LogFiles, end: Position): string[] {
  const entries = [...new LogReader(files).entries(0n)];
  return entries.flatMap((entry) => (entry.end <= end && entry.kind === 'records' ? keysOf(entry) : []));
}

describe('the files of a log', () => {
  test('are read with what the keeper gives once the cache is ready', async () => {
    const directory = data.fresh();
    const first = await data.open(directory, { snapshot: { atClose: false } });
    first.set('a', 1);
    await first.close();
    const cache = await data.open(directory, { snapshot: { atClose: false } });
    const files = filesOf(keeperOf(cache));
    expect(files.directory).toBe(directory);
    cache.set('b', 2);
    await cache.sync();
    // Recovered records lie before the end as of the opening, new ones behind it.
    expect(keysBefore(files, files.openedAt)).toEqual(['a']);
    const behind = [...new LogReader(files).entries(files.openedAt)];
    expect(behind.flatMap((entry) => keysOf(entry))).toEqual(['b']);
    const { logId } = files;
    await cache.close();
    const third = await data.open(directory, { snapshot: { atClose: false } });
    expect(keeperOf(third).files!.logId).toBe(logId);
    expect(keeperOf(third).files!.openedAt).toBeGreaterThan(files.openedAt);
    await third.close();
  });

  test('are read on by the same reader when the scribe has died and another one has begun', async () => {
    const cache = await data.open(data.fresh());
    const keeper = keeperOf(cache);
    const files = filesOf(keeper);
    const keys: string[] = [];
    let isOver = false;
    const reading = (async () => {
      for await (const entry of new LogReader(files).read(files.openedAt, { level: 'durable' }))
        if (entry.kind === 'records') keys.push(...keysOf(entry));
      isOver = true;
    })();
    cache.set('before', 1);
    await cache.sync();
    await endThread(keeper);
    cache.set('after', 2);
    await cache.sync();
    expect(keeper.files).toEqual(files);
    await cache.close();
    await reading;
    expect(isOver).toBe(true);
    // A record that was drained and not committed when the scribe died may be in the log twice.
    expect([...new Set(keys)]).toEqual(['before', 'after']);
  });
});

test('a reader of the files ends with the cache, also if no scribe is left to say so', async () => {
  const cache = await data.open(data.fresh());
  cache.on('log', () => {});
  const keeper = keeperOf(cache);
  const files = filesOf(keeper);
  cache.set('a', 1);
  await cache.sync();
  const keys: string[] = [];
  const reading = (async () => {
    for await (const entry of new LogReader(files).read(files.openedAt))
      if (entry.kind === 'records') keys.push(...keysOf(entry));
  })();
  for (let deaths = 0; deaths < 2; deaths++) await endThread(keeper);
  await cache.destroy().catch(() => {});
  await reading;
  expect(keys).toEqual(['a']);
});

describe('committedUpTo()', () => {
  test.each(['committed', 'durable'] as const)(
    'is behind every record that was written before the call, %s',
    async (level) => {
      const cache = await data.open(data.fresh(), { sync: 'none', shards: 4 });
      const keeper = keeperOf(cache);
      const files = filesOf(keeper);
      const written: string[] = [];
      for (let round = 0; round < 20; round++) {
        for (let i = 0; i < 50; i++) {
          written.push(`k${round}.${i}`);
          cache.set(written.at(-1)!, i);
        }
        const end = await keeper.committedUpTo(level);
        expect(new Set(keysBefore(files, end))).toEqual(new Set(written));
        if (level === 'durable') expect(durableKeys(files).size).toBe(written.length);
      }
      await cache.close();
    },
  );

  test('rejects when its caller does not wait any more', async () => {
    const cache = await data.open(data.fresh());
    const keeper = keeperOf(cache);
    cache.set('a', 1);
    const controller = new AbortController();
    const position = keeper.committedUpTo('durable', controller.signal);
    controller.abort(new Error('too long'));
    await expect(position).rejects.toThrow('too long');
    await expect(keeper.committedUpTo('durable', controller.signal)).rejects.toThrow('too long');
    expect(await keeper.committedUpTo('durable')).toBeGreaterThan(0n);
    await cache.close();
  });

  function durableKeys(files: LogFiles): Set<string> {
    const entries = [...new LogReader(files).entries(0n, 'durable')];
    return new Set(entries.flatMap((entry) => (entry.kind === 'records' ? keysOf(entry) : [])));
  }
});

describe('a cursor', () => {
  const asked = [
    ['the keeper', (cache: Cache) => keeperOf(cache)],
    ['an attached thread', (cache: Cache) => new RemoteScribe(feedOf(native.attachCache(cache.name) as never)!)],
  ] as const;

  test.each(asked)('is made, moved and dropped through %s, and refused as the log refuses it', async (_, scribeOf) => {
    const directory = data.fresh();
    const cache = await data.open(directory, { name: `cursor ${_}` });
    const scribe = scribeOf(cache);
    const cursor = scribe.cursor('feed');
    expect(await cursor.position()).toBeUndefined();
    cache.set('a', 1);
    const end = await scribe.committedUpTo('committed');
    await cursor.advance(end);
    expect(await cursor.position()).toBe(end);
    await expect(cursor.advance(end - 1n)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
    await expect(cursor.advance(end + 1_000_000n)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
    await expect(cursor.advance(1 as never)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
    await expect(scribe.cursor('').position()).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
    expect(await cursor.position()).toBe(end);
    await cache.close();
    await expect(cursor.position()).rejects.toThrow(withCode('ERR_CLOSED'));

    const again = await data.open(directory);
    const kept = keeperOf(again).cursor('feed');
    expect(await kept.position()).toBe(end);
    await kept.drop();
    await kept.drop();
    expect(await kept.position()).toBeUndefined();
    await again.close();
  });

  test('is moved by the next scribe if the one that was asked dies', async () => {
    const cache = await data.open(data.fresh());
    const keeper = keeperOf(cache);
    const end = await keeper.committedUpTo('durable');
    const died = endThread(keeper);
    await keeper.cursor('feed').advance(end);
    await died;
    expect(await keeper.cursor('feed').position()).toBe(end);
    await cache.close();
  });
});
