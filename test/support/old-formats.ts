// Directories as programs of format 1 and 2 have left them. Headers of files and batches have not changed since; what
// has are the versions of records, what a clear takes, and kind 5 and the optional fields, which came later.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { EmbeddedLog, type Files, lockedByCaller } from '../../src/log/index.ts';
import { makeRecord, type RecordParts } from './records.ts';

/** The counter of the first record of a batch. */
export const COUNTER = 77;

/**
 * Appends a batch of records with versions as format 1 and 2 have them: 20 bits of `epoch % 2 ** 20`, 44 of counter.
 * The directory is of the present format until it is aged.
 */
export function appendOld(directory: string, epoch: number, parts: RecordParts[], files?: Files): void {
  const log = EmbeddedLog.open({ directory, lockDirectory: lockedByCaller, ...(files && { files }) });
  const records = parts.map((part, i) => {
    const record = makeRecord({ codec: part.kind === 'set' ? 1 : 0, ...part });
    record.writeBigUInt64LE((BigInt((part.epoch ?? epoch) % 2 ** 20) << 44n) + BigInt(part.counter ?? COUNTER + i), 8);
    return record;
  });
  const result = log.append({ records, recordCount: records.length, epoch, expectPosition: log.end });
  if (result.kind !== 'committed') throw new Error(`The log answers ${result.kind}`);
  log.close();
}

/** The bytes of a file, marked as of an older format. */
export function aged(bytes: Buffer, version = 2): Buffer {
  bytes.writeUInt32LE(version, 8);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 124)), 124);
  return bytes;
}

/** Marks all segments and snapshots of a directory so. */
export function age(directory: string, version = 2): void {
  for (const name of readdirSync(directory).filter((name) => /\.(log|snapshot)$/.test(name))) {
    writeFileSync(join(directory, name), aged(readFileSync(join(directory, name)), version));
  }
}
