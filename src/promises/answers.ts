/** The answers of a lane: each function makes a value of a row, or throws its error. */
import { answerError, countAnswer, entryInfo, storeAnswer } from '../answers.ts';
import { CairnError, reasonOf, show } from '../errors.ts';
import { Code } from '../native.ts';
import type { RawOption } from '../options.ts';
import { withJson } from '../reports.ts';
import { type CasResult, type EntryInfo, type Key, noRoomToUpdate } from '../request/arguments.ts';
import { type Block, Verb } from '../request/batch.ts';
import { Codec, decode } from '../request/codec.ts';
import type { AnyCall } from './call.ts';

/** Makes a value of an answer, or throws its error. */
export type Read<T = unknown> = (
  block: Block,
  row: number,
  pieces: readonly Buffer[],
  call: AnyCall,
  position: number,
) => T;

function refusal(status: number, call: AnyCall, position: number): Error {
  return answerError(call.handle, status, {
    key: call.key(position),
    bytes: call.sizeOf(position),
    what: `Cannot ${call.describe(position)}`,
    verb: call.name,
  });
}

export const readValue: Read = (block, row, pieces, call, position) => {
  const status = block.status(row);
  if (status === Code.found) return decodeValue(block, row, pieces, call.raw);
  if (status === Code.notFound) return undefined;
  throw refusal(status, call, position);
};

// The lane has removed the entry before its bytes are decoded here. A read, and a delete of the version that was read,
// would leave no moment without it; but what this thread asks of the key in the meantime would come between the two.
export const readTaken: Read = (block, row, pieces, call, position) => {
  try {
    return readValue(block, row, pieces, call, position);
  } catch (error) {
    if (block.status(row) !== Code.found || putBack(block, row, pieces, call, position)) throw error;
    throw takenForGood(error, call.key(position));
  }
};

// False: there is no room for it now, in memory or in the log.
function putBack(block: Block, row: number, pieces: readonly Buffer[], call: AnyCall, position: number): boolean {
  const { bytes, start, end } = block.value(row, pieces);
  const key = call.key(position);
  const ttl = Number(block.number(row));
  const code = call.handle.store(
    Verb.add,
    typeof key === 'string' ? Buffer.from(key, 'utf8') : key,
    bytes.subarray(start, end),
    block.codec(row),
    ttl,
    false,
    block.clientFlags(row),
  );
  return code === Code.stored || code === Code.notStored;
}

function takenForGood(error: unknown, key: Key): unknown {
  return new CairnError(
    'ERR_VALUE_MALFORMED',
    `${reasonOf(error)}; and the entry of ${show(key)} could not be put back`,
    {
      cause: error,
    },
  );
}

export const readWithCas: Read = (block, row, pieces, call, position) => {
  const value = readValue(block, row, pieces, call, position);
  return block.status(row) === Code.found ? withJson({ value, cas: block.version(row) }) : undefined;
};

export const readFound: Read<boolean> = (block, row, _pieces, call, position) => {
  const status = block.status(row);
  if (status === Code.found) return true;
  if (status === Code.notFound) return false;
  throw refusal(status, call, position);
};

export const readInfo: Read<EntryInfo | undefined> = (block, row, pieces, call, position) => {
  if (!readFound(block, row, pieces, call, position)) return undefined;
  return entryInfo(call.handle, {
    codec: block.codec(row),
    bytes: block.valueBytes(row),
    expiresInMs: Number(block.number(row)),
    cas: block.version(row),
    flags: block.clientFlags(row),
    fetched: block.isFetched(row),
    idleSeconds: block.idleSeconds(row),
  });
};

export const readRemaining: Read<number> = (block, row, pieces, call, position) => {
  if (!readFound(block, row, pieces, call, position)) return 0;
  return Number(block.number(row)) || Number.POSITIVE_INFINITY;
};

export const readStored: Read<CasResult> = (block, row, _pieces, call, position) => {
  const status = block.status(row);
  const answer = storeAnswer(status);
  if (answer === undefined) throw refusal(status, call, position);
  return answer;
};

// For update(): there is no memory; no other caller was faster.
export const readUpdated: Read<CasResult> = (block, row, pieces, call, position) => {
  if (block.status(row) === Code.noMemory) throw noRoomToUpdate(call.key(position));
  return readStored(block, row, pieces, call, position);
};

export const readBigInt: Read<bigint | 'not-stored' | undefined> = (block, row, _pieces, call, position) => {
  const status = block.status(row);
  switch (countAnswer(status)) {
    case 'number':
      return block.number(row);
    case 'not-found':
      return undefined;
    case 'not-stored':
      return 'not-stored';
    default:
      throw refusal(status, call, position);
  }
};

export const readNumber: Read<number | 'not-stored' | undefined> = (block, row, pieces, call, position) => {
  const number = readBigInt(block, row, pieces, call, position);
  return typeof number === 'bigint' ? Number(number) : number;
};

function decodeValue(block: Block, row: number, pieces: readonly Buffer[], raw: RawOption): unknown {
  const codec = block.codec(row);
  const { bytes, start, end, isOwn } = block.value(row, pieces);
  // No other value shares these bytes, so they are the Buffer.
  if (isOwn && codec === Codec.raw && raw === 'buffer') return bytes;
  return decode(codec, bytes, start, end, raw, block.clientFlags(row));
}

/** What a reading function makes of a key without a value. */
export function missOf(read: Read): unknown {
  if (read === readFound) return false;
  return read === readRemaining ? 0 : undefined;
}
