/**
 * Walks over a cache: keys, values and entries, and dumps.
 *
 * The addon gives the keys of a walk some at a time. Each is looked up again when it is handed out: what a walk gives
 * is there at that moment, with the value of that moment. The code that runs between two steps of a generator may have
 * deleted, replaced or cleared it, and time may have passed.
 */
import { types } from 'node:util';
import { answerError } from './answers.ts';
import { BLOCK_HEADER_BYTES, DumpReader, dumpHeader, malformed, sealBlock } from './dump.ts';
import { outOfRange, wrongType } from './errors.ts';
import { DUMP_BLOCK_BYTES } from './limits.ts';
import { Code, lowWord, type NativeHandle, type NativeWalk, numberWord, Word } from './native.ts';
import { checkChoice, checkInteger, checkNames, type WalkOptions } from './options.ts';
import { iterable } from './request/arguments.ts';
import { isReadable } from './request/bytes.ts';
import { recordsFault } from './request/record.ts';

/** The answer of `load()`. */
export interface LoadResult {
  /** Entries stored. */
  loaded: number;
  /** Entries that were not stored: expired by now, or too large for this cache. */
  skipped: number;
}

/** What `read` gives of each key of a walk; `undefined`: the entry is not there any more. */
export function* walk<T>(
  handle: NativeHandle,
  options: WalkOptions | undefined,
  read: (key: string | Buffer) => T | undefined,
): Generator<T, undefined, undefined> {
  const given = checkNames<WalkOptions>('options', options, ['order', 'limit']);
  const order = checkChoice('order', given.order, ['newest', 'oldest'], 'newest');
  let left =
    given.limit === Number.POSITIVE_INFINITY
      ? given.limit
      : checkInteger('limit', given.limit, 0, Number.MAX_SAFE_INTEGER, Number.POSITIVE_INFINITY);
  if (handle.isClosed()) throw answerError(handle, Code.closed);
  if (left === 0) return undefined;
  const native = openWalk(handle, order);
  try {
    for (;;) {
      const keys = handle.stepWalk(native, left);
      if (keys === undefined) return undefined;
      if (typeof keys === 'number') throw answerError(handle, keys);
      for (const key of keys as (string | Buffer)[]) {
        const found = read(key);
        if (found === undefined) continue;
        yield found;
        left--;
        if (left === 0) return undefined;
      }
    }
  } finally {
    handle.closeWalk(native);
  }
}

function openWalk(handle: NativeHandle, order: 'newest' | 'oldest', acceptsStale = false): NativeWalk {
  const opened = handle.openWalk(order === 'newest', acceptsStale);
  if (typeof opened === 'number') throw answerError(handle, opened);
  return opened;
}

/** Cache.dump, which has the documentation. A block is made when it is asked for, of what is there then. */
export function* dump(handle: NativeHandle): Generator<Buffer, undefined, undefined> {
  yield dumpHeader();
  const native = openWalk(handle, 'oldest', true);
  try {
    let room = BLOCK_HEADER_BYTES + DUMP_BLOCK_BYTES;
    for (;;) {
      const block = Buffer.allocUnsafeSlow(room);
      const bytes = handle.dumpStep(native, block.subarray(BLOCK_HEADER_BYTES));
      if (bytes === false) throw answerError(handle, lowWord(Word.code));
      if (bytes > 0) {
        const used = block.subarray(0, BLOCK_HEADER_BYTES + bytes);
        sealBlock(used);
        yield used;
        room = BLOCK_HEADER_BYTES + DUMP_BLOCK_BYTES;
      } else {
        const needed = numberWord(Word.number);
        if (needed === 0) return undefined;
        room = BLOCK_HEADER_BYTES + needed;
      }
    }
  } finally {
    handle.closeWalk(native);
  }
}

/** Cache.load, which has the documentation. */
export function load(
  handle: NativeHandle,
  given: Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): LoadResult | Promise<LoadResult> {
  const reader = new DumpReader();
  const result: LoadResult = { loaded: 0, skipped: 0 };
  const push = (piece: unknown): void => {
    if (!types.isUint8Array(piece)) throw wrongType('each piece of a dump', 'a Buffer or Uint8Array', piece);
    if (!isReadable(piece)) throw outOfRange('each piece of a dump', 'bytes that can be read', piece);
    for (const records of reader.push(piece)) loadRecords(handle, records, result);
  };
  if (typeof given === 'object' && given !== null && Symbol.asyncIterator in given) {
    return (async () => {
      for await (const piece of given) push(piece);
      reader.end();
      return result;
    })();
  }
  for (const piece of types.isUint8Array(given) ? [given] : iterable('dump', given)) push(piece);
  reader.end();
  return result;
}

function loadRecords(handle: NativeHandle, records: Buffer, result: LoadResult): void {
  const taken = handle.load(records);
  if (taken === false) {
    const code = lowWord(Word.code);
    throw code === Code.invalidValue
      ? malformed(`a record ${recordsFault(records) ?? 'is damaged'}`)
      : answerError(handle, code);
  }
  if (taken !== records.length) throw malformed('a block ends within a record');
  result.loaded += numberWord(Word.number);
  result.skipped += numberWord(Word.version);
}
