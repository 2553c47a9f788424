// Records made by hand, after the drawing in native/store/record.h: what the addon would have put into the log.

export interface RecordParts {
  kind: 'set' | 'delete' | 'touch' | 'clear' | 'clearAt';
  key?: string | Buffer;
  value?: string | Buffer;
  epoch?: number;
  counter?: number;
  expiresWallMs?: number;
  clientFlags?: number;
  codec?: number;
  freshUntilWallMs?: number;
  delta?: bigint;
  batch?: { id: bigint; count: number; index: number };
}

const KINDS = { set: 1, delete: 2, touch: 3, clear: 4, clearAt: 5 };

export function makeRecord(parts: RecordParts): Buffer {
  const { kind, epoch = 1, counter = 1, expiresWallMs = 0, clientFlags = 0, codec = 0 } = parts;
  const key = Buffer.from(parts.key ?? '');
  const value = Buffer.from(parts.value ?? '');
  const fields = optionalFields(parts);
  const used = 40 + fields.length + key.length + value.length;
  const record = Buffer.alloc(used + ((8 - (used % 8)) % 8));
  record.writeUInt32LE(record.length, 0);
  record[4] = KINDS[kind];
  record[5] = codec + (clientFlags === 0 ? 0 : 16);
  const { freshUntilWallMs, delta, batch } = parts;
  record[6] = (freshUntilWallMs === undefined ? 0 : 1) + (delta === undefined ? 0 : 2) + (batch === undefined ? 0 : 4);
  record.writeBigUInt64LE((BigInt(epoch) << 32n) + BigInt(counter), 8);
  record.writeBigInt64LE(BigInt(expiresWallMs), 16);
  record.writeUInt32LE(clientFlags, 24);
  record.writeUInt32LE(key.length, 28);
  record.writeUInt32LE(value.length, 32);
  fields.copy(record, 40);
  key.copy(record, 40 + fields.length);
  value.copy(record, 40 + fields.length + key.length);
  return record;
}

function optionalFields({ freshUntilWallMs, delta, batch }: RecordParts): Buffer {
  const bytes = Buffer.alloc(32);
  let at = 0;
  if (freshUntilWallMs !== undefined) at = bytes.writeBigInt64LE(BigInt(freshUntilWallMs), at);
  if (delta !== undefined) at = bytes.writeBigInt64LE(delta, at);
  if (batch !== undefined) {
    at = bytes.writeBigUInt64LE(batch.id, at);
    at = bytes.writeUInt32LE(batch.count, at);
    at = bytes.writeUInt32LE(batch.index, at);
  }
  return bytes.subarray(0, at);
}
