// Packets of memcached's binary protocol: requests as bytes, replies taken apart.

export interface PacketParts {
  readonly extras?: Buffer;
  readonly key?: string;
  readonly value?: Buffer | string;
  readonly cas?: bigint;
  readonly opaque?: number;
}

/** A request. */
export function packet(
  opcode: number,
  { extras, key = '', value = '', cas = 0n, opaque = 0 }: PacketParts = {},
): Buffer {
  const header = Buffer.alloc(24);
  const body = Buffer.concat([extras ?? Buffer.alloc(0), Buffer.from(key, 'latin1'), Buffer.from(value as string)]);
  header[0] = 0x80;
  header[1] = opcode;
  header.writeUInt16BE(key.length, 2);
  header[4] = extras?.length ?? 0;
  header.writeUInt32BE(body.length, 8);
  header.writeUInt32BE(opaque, 12);
  header.writeBigUInt64BE(cas, 16);
  return Buffer.concat([header, body]);
}

/** Numbers of 4 bytes in a row: flags and expiry. */
export function words(...numbers: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * numbers.length);
  for (const [i, number] of numbers.entries()) bytes.writeUInt32BE(number, 4 * i);
  return bytes;
}

/** The extras of incr and decr. */
export function countExtras(delta: bigint, initial: bigint, exptime: number): Buffer {
  const bytes = Buffer.alloc(20);
  bytes.writeBigUInt64BE(delta, 0);
  bytes.writeBigUInt64BE(initial, 8);
  bytes.writeUInt32BE(exptime, 16);
  return bytes;
}

/** A reply. */
export interface Reply {
  readonly opcode: number;
  readonly status: number;
  readonly opaque: number;
  readonly cas: bigint;
  readonly extras: string;
  readonly key: string;
  readonly value: string;
}

/** The replies in the bytes, given as latin1 text. Throws if they are not whole. */
export function repliesIn(text: string): Reply[] {
  const bytes = Buffer.from(text, 'latin1');
  const replies: Reply[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (bytes[at] !== 0x81 || bytes.length < at + 24)
      throw new Error(`Expected a reply at ${at}, got ${bytes.subarray(at, at + 24).toString('hex')}`);
    const keyBytes = bytes.readUInt16BE(at + 2);
    const extrasBytes = bytes[at + 4]!;
    const body = at + 24;
    const end = body + bytes.readUInt32BE(at + 8);
    if (end > bytes.length) throw new Error(`Expected a reply of ${end - at} bytes, got ${bytes.length - at}`);
    const part = (from: number, to: number): string => bytes.toString('latin1', from, to);
    replies.push({
      opcode: bytes[at + 1]!,
      status: bytes.readUInt16BE(at + 6),
      opaque: bytes.readUInt32BE(at + 12),
      cas: bytes.readBigUInt64BE(at + 16),
      extras: part(body, body + extrasBytes),
      key: part(body + extrasBytes, body + extrasBytes + keyBytes),
      value: part(body + extrasBytes + keyBytes, end),
    });
    at = end;
  }
  return replies;
}
