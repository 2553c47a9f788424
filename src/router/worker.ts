/**
 * A lane's thread: holds a handle of the cache and executes batches, each in one native call; more calls only for
 * values that have no room in the block. It never throws: a failure is an outcome, because an error would lose its code
 * on the way.
 */
import { workerData } from 'node:worker_threads';
import { ANSWER_BYTES_MAX } from '../limits.ts';
import { type NativeHandle, native } from '../native.ts';
import { VALUE_BYTES_INLINE_MAX } from '../request/batch.ts';
import {
  type BatchAnswer,
  type BatchMessage,
  CLOSED,
  CONTINUE,
  DONE,
  HELLO,
  type LaneData,
  MORE,
  OUT_OF_MEMORY,
} from './message.ts';

/** What native/addon/batch_binding.h adds to a handle. */
interface BatchHandle extends NativeHandle {
  beginBatch(block: Uint8Array, pieces: readonly Uint8Array[] | undefined): number;
  continueBatch(target: Uint8Array, pieceNumber: number): number;
}

// Values without room are copied to pieces of this size; a value too large for a block gets its own piece, which is
// handed to the caller without another copy.
const PIECE_BYTES = 256 * 1024;

const attached = native.attachById((workerData as LaneData).cacheId);
const handle = typeof attached === 'number' ? undefined : (attached as BatchHandle);

const blocks: Uint8Array[] = [];
// For the batch in progress: the store reads values from here until it is done.
let pieces: readonly Uint8Array[] | undefined;
// The room that its next value needs.
let need = 0;

export function runBatch(message: number | BatchMessage): number | Promise<unknown> {
  if (handle === undefined) return CLOSED;
  if (message === HELLO) return DONE;
  if (message !== CONTINUE) need = handle.beginBatch(blockOf(message), pieces);
  if (need === 0) return DONE;
  return need < 0 ? CLOSED : bringOut(handle);
}

function blockOf(message: number | BatchMessage): Uint8Array {
  if (typeof message === 'number') {
    pieces = undefined;
    return blocks[message]!;
  }
  pieces = message.pieces.length > 0 ? message.pieces : undefined;
  if (message.memory === undefined) return blocks[message.slot]!;
  const block = new Uint8Array(message.memory);
  if (message.slot >= 0) blocks[message.slot] = block;
  return block;
}

// Makes room for values until the batch is done or the answer is large enough.
async function bringOut(lane: BatchHandle): Promise<unknown> {
  const found: Uint8Array[] = [];
  let bytes = 0;
  let outcome = DONE;
  while (need !== 0) {
    if (need < 0) {
      outcome = CLOSED;
      break;
    }
    if (bytes >= ANSWER_BYTES_MAX) {
      outcome = MORE;
      break;
    }
    const piece = allocate(need > VALUE_BYTES_INLINE_MAX ? need : PIECE_BYTES);
    if (piece === undefined) {
      outcome = OUT_OF_MEMORY;
      break;
    }
    found.push(piece);
    bytes += piece.byteLength;
    need = lane.continueBatch(piece, found.length);
  }
  return transferred({ outcome, pieces: found });
}

// Not zeroed: bytes without a value are never read.
function allocate(bytes: number): Uint8Array | undefined {
  try {
    return Buffer.allocUnsafeSlow(bytes);
  } catch {
    return undefined; // The only possible reason is no memory. The lane tells the caller.
  }
}

// Loaded when it is first needed: most lanes never meet a value that large.
async function transferred(answer: BatchAnswer): Promise<unknown> {
  const { move, transferableSymbol, valueSymbol } = await import('piscina');
  return move({
    [transferableSymbol]: answer.pieces.map(({ buffer }) => buffer),
    [valueSymbol]: answer,
  } as never);
}
