// Readers in other threads: each has its own LogReader over the files, and hears of more through shared memory. They
// use the built package, because Node cannot run TypeScript.

import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { afterAll, describe, expect, test } from 'vitest';
import { EmbeddedLog } from '../../src/log/index.ts';
import { lockByAddon } from '../../src/native/directory-lock.ts';
import { appendNow } from '../support/logs.ts';

const library = new URL('../../dist/log/index.js', import.meta.url).href;
const records = new URL('../../dist/request/record.js', import.meta.url).href;
const root = mkdtempSync(join(tmpdir(), 'cairn-log-threads-'));
afterAll(() => rmSync(root, { recursive: true }));

/**
 * A thread that reads a log until it is closed, and says how many records it has had and whether they were in order.
 */
const program = `
  import { parentPort, workerData } from 'node:worker_threads';
  const { LogReader } = await import(workerData.library);
  const { RecordReader } = await import(workerData.records);
  const reader = new LogReader(workerData);
  let next = 0;
  // What waits in shared memory does not keep a thread alive.
  const alive = setInterval(() => {}, 1000);
  for await (const entry of reader.read(0n)) {
    if (entry.kind !== 'records') continue;
    const records = new RecordReader(entry.records);
    records.next();
    if (records.key.toString() !== next + '.1') throw new Error('Expected ' + next + ', got ' + records.key);
    next++;
    if (next % 100 === 0) parentPort.postMessage(next);
  }
  clearInterval(alive);
  parentPort.postMessage({ count: next });
`;

describe('readers in other threads', () => {
  test('see every batch once and in order while it is written, over segments that fill, and end with the log', async () => {
    const directory = join(root, 'log');
    const log = EmbeddedLog.open({ directory, lockDirectory: lockByAddon, sync: 'none', segmentBytes: 65_536 });
    const url = new URL(`data:text/javascript,${encodeURIComponent(program)}`);
    const workers = [1, 2].map(
      () => new Worker(url, { workerData: { directory, progress: log.progress, library, records } }),
    );
    const results = workers.map(async (worker) => {
      const failed = once(worker, 'error').then(([error]) => Promise.reject(error));
      for (;;) {
        const [message] = await Promise.race([once(worker, 'message'), failed]);
        if (typeof message === 'object') return message;
      }
    });
    const exits = workers.map((worker) => once(worker, 'exit'));
    for (let i = 0; i < 2000; i++) {
      appendNow(log, `${i}`, { valueBytes: 100 });
      if (i % 50 === 0) await new Promise(setImmediate);
    }
    log.close();
    expect(await Promise.all(results)).toEqual([{ count: 2000 }, { count: 2000 }]);
    await Promise.all(exits);
  });
});
