// The rows of history in a file of LMDB, read as a program would that knows only what docs/backends.md says of them.

import { open } from 'lmdb';

export interface LmdbHistoryRow {
  /** The whole key. */
  readonly key: Buffer;
  /** As a signed number, as the databases with columns have it. */
  readonly version: bigint;
  readonly kind: string;
  readonly value: Buffer | undefined;
  readonly codec: bigint | undefined;
  readonly clientFlags: bigint | undefined;
  readonly expiresMs: bigint | undefined;
  readonly loggedMs: bigint;
}

const BINARY = { encoding: 'binary', keyEncoding: 'binary' } as const;
const KINDS = ['', 'set', 'delete', 'touch'];

/** In the order of the file: by key, and of each key in the order of its writes. */
export async function readLmdbHistory(path: string): Promise<LmdbHistoryRow[]> {
  const root = open({ ...BINARY, path, noSubdir: true, maxDbs: 4 });
  try {
    const history = root.openDB<Buffer, Buffer>({ ...BINARY, name: 'history' });
    return Array.from(history.getRange(), ({ key, value }) => rowOf(Buffer.from(key), Buffer.from(value)));
  } finally {
    await root.close();
  }
}

function rowOf(key: Buffer, row: Buffer): LmdbHistoryRow {
  if (row[0] !== 1) throw new Error(`A row of history has layout ${row[0]}`);
  const kind = KINDS[row[1]!]!;
  const longBytes = row.readUInt32LE(24);
  const isSet = kind === 'set';
  return {
    key: longBytes === 0 ? key.subarray(0, -9) : row.subarray(32, 32 + longBytes),
    version: key.readBigInt64BE(key.length - 8),
    kind,
    value: isSet ? row.subarray(32 + longBytes) : undefined,
    codec: isSet ? BigInt(row[2]!) : undefined,
    clientFlags: isSet ? BigInt(row.readUInt32LE(4)) : undefined,
    expiresMs: kind === 'delete' ? undefined : row.readBigInt64LE(8),
    loggedMs: row.readBigInt64LE(16),
  };
}
