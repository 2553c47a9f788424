/** Bytes from a caller: whether they can be read, and copies of them. */
import { types } from 'node:util';
import type { CairnTypeError } from '../errors.ts';
import { notStorable } from './not-storable.ts';

/**
 * False: the memory of the view was transferred to another thread, or resized so that the view is outside of it.
 * JavaScript shows such a view as empty.
 */
export function isReadable(view: ArrayBufferView): boolean {
  try {
    if (types.isDataView(view)) return view.byteLength >= 0;
    if (view.byteLength === 0) Uint8Array.prototype.at.call(view, 0); // throws if the view is not readable
    return true;
  } catch {
    return false;
  }
}

/** The error for bytes that cannot be read. */
export function unreadable(name: string): CairnTypeError {
  return notStorable(
    `Expected ${name} to be bytes that can be read, got a view of memory that was transferred to another thread, or resized so that the view lies outside it`,
  );
}

/** A copy of readable bytes; other values unchanged. */
export function copyOfBytes<T>(value: T): T {
  return types.isUint8Array(value) && isReadable(value) ? (Buffer.from(value) as T & Buffer) : value;
}
