// An atomic batch in the log, wherever the log is torn: all parts are read back, or none.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { recover } from '../../src/log/index.ts';
import { RecordReader } from '../../src/request/record.ts';
import { DataDirectories } from '../support/data-directories.ts';
import { LogDisk } from '../support/logs.ts';

const data = new DataDirectories('atomic-log');

/** The keys that a log gives back, and those of parts. */
function recoveredOf(files: ReadonlyMap<string, Buffer>): { keys: string[]; parts: string[] } {
  const disk = new LogDisk();
  for (const [name, bytes] of files) disk.disk.put(disk.path(name), bytes);
  const keys: string[] = [];
  const parts: string[] = [];
  const log = disk.open();
  recover({
    log,
    apply(records) {
      const reader = new RecordReader(records);
      while (reader.next()) (reader.batch === undefined ? keys : parts).push(reader.key.toString());
    },
  });
  log.close();
  return { keys, parts };
}

/** A segment has room for what is to come. */
function usedOf(segment: Buffer): Buffer {
  let end = segment.length;
  while (end > 0 && segment[end - 1] === 0) end--;
  return segment.subarray(0, end);
}

test('a log that ends anywhere in a batch has nothing of it, and everything before', async () => {
  const directory = data.fresh();
  const cache = await data.open(directory, { shards: 4, snapshot: { atClose: false }, sync: 'always' });
  await cache.promises.set('before', 1);
  const names = Array.from({ length: 8 }, (_, i) => `k${i}`);
  const shapes = names.map((name, i) => (i % 3 === 2 ? undefined : `${name} ${'x'.repeat(i * 5)}`));
  const batch = cache.promises.batch();
  for (const [i, name] of names.entries()) {
    const value = shapes[i];
    if (value === undefined) batch.delete(name);
    else batch.set(name, value);
  }
  const [segment] = readdirSync(directory).filter((name) => name.endsWith('.log'));
  // The record before may end with zeros.
  const begin = Math.ceil(usedOf(readFileSync(join(directory, segment!))).length / 8) * 8;
  await batch.commit({ ack: 'logged' });
  await data.crash(cache);
  const files = new Map(
    readdirSync(directory, { withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => [entry.name, readFileSync(join(directory, entry.name))]),
  );
  const whole = usedOf(files.get(segment!)!);
  const all = recoveredOf(files);
  expect(all.keys).toContain('before');
  expect(all.parts.sort()).toEqual(names);
  for (let end = begin; end < whole.length; end++) {
    for (const behind of [0, 64]) {
      const torn = Buffer.concat([whole.subarray(0, end), Buffer.alloc(behind)]);
      const found = recoveredOf(new Map([...files, [segment!, torn]]));
      expect(found, `${end} of ${begin} to ${whole.length} bytes, and ${behind} of zeros`).toEqual({
        keys: all.keys,
        parts: [],
      });
    }
  }
  expect(whole.length - begin).toBeGreaterThan(8 * 56);
});
