// The embedded log, on this machine's files and on a disk in memory, and a log without files or locks, held to one
// suite.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EmbeddedLog, type RequestLog, type SyncPolicy } from '../../src/log/index.ts';
import { lockByAddon } from '../../src/native/directory-lock.ts';
import { describeLogPort } from '../conformance/log-port.ts';
import { describeRequestLog, type LogHarness } from '../conformance/request-log.ts';
import { LatentLog } from '../support/latent-log.ts';
import { LogDisk } from '../support/logs.ts';
import { MemoryLog, MemoryStream } from '../support/memory-log.ts';

function onFiles(sync: SyncPolicy): LogHarness {
  const folder = mkdtempSync(join(tmpdir(), 'cairn-log-'));
  const logs: RequestLog[] = [];
  return {
    open() {
      const log = EmbeddedLog.open({
        directory: join(folder, 'log'),
        lockDirectory: lockByAddon,
        sync,
        segmentBytes: 8192,
      });
      logs.push(log);
      return log;
    },
    async dispose() {
      for (const log of logs) await log.close();
      rmSync(folder, { recursive: true });
    },
  };
}

for (const sync of ['always', '5ms', 'none'] as const)
  describeRequestLog(`the embedded log (${sync})`, () => onFiles(sync));

describeRequestLog('the embedded log in memory', () => {
  const disk = new LogDisk();
  let open: EmbeddedLog | undefined;
  return {
    open() {
      let isHeld = false;
      open = disk.open({
        lockDirectory: () => {
          if (open !== undefined) throw Object.assign(new Error('in use'), { code: 'ERR_LOG_LOCKED' });
          isHeld = true;
          return {
            release() {
              if (isHeld) open = undefined;
            },
          };
        },
      });
      return open;
    },
    dispose() {},
  };
});

describeRequestLog('a log without a lock', () => {
  const stream = new MemoryStream();
  let writer = 0n;
  const open = (): RequestLog => new MemoryLog(stream, ++writer);
  return { open, contend: open, dispose() {} };
});

describeLogPort('the embedded log in memory', () => {
  const disk = new LogDisk();
  return {
    open: () => disk.open(),
    fill: (_, isFull) => {
      disk.disk.capacityBytes = isFull ? disk.disk.bytes : Number.POSITIVE_INFINITY;
    },
  };
});

for (const [name, options] of [
  ['a log that answers late', {}],
  ['a log that answers late, and loses requests and answers', { lossOneIn: 4 }],
  ['a log that answers late, one at a time', { windowMax: 1, lossOneIn: 8 }],
] as const) {
  describeLogPort(name, () => {
    const stream = new MemoryStream();
    let writer = 0n;
    return {
      open() {
        const log = new LatentLog(stream, ++writer, Number(writer), options);
        log.takeOver();
        return log;
      },
      fill(log, isFull) {
        (log as LatentLog).isFull = isFull;
      },
    };
  });
}
