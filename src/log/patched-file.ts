/**
 * A file as it would be with some of its bytes changed, without changing it: what a repair plans and looks at before it
 * does anything. Nothing of the file is kept in memory but the changes.
 */
import { crc32 } from 'node:zlib';
import type { Files, OpenFile } from './files.ts';

/** What is copied at once. */
const STEP_BYTES: number = 2 ** 20;

export class PatchedFile implements OpenFile {
  readonly #files: Files;
  readonly #path: string;
  readonly #patches: { readonly offset: number; readonly bytes: Buffer }[] = [];
  #size: number;

  constructor(files: Files, path: string) {
    this.#files = files;
    this.#path = path;
    this.#size = this.#withFile((file) => file.size());
  }

  size(): number {
    return this.#size;
  }

  read(target: Uint8Array, offset: number): number {
    const count = Math.max(0, Math.min(target.length, this.#size - offset));
    const wanted = target.subarray(0, count);
    const there = this.#withFile((file) => file.read(wanted, offset));
    wanted.fill(0, there);
    for (const patch of this.#patches) {
      const start = Math.max(offset, patch.offset);
      const end = Math.min(offset + count, patch.offset + patch.bytes.length);
      if (start < end) wanted.set(patch.bytes.subarray(start - patch.offset, end - patch.offset), start - offset);
    }
    return count;
  }

  /** Changes some bytes; behind the end the file grows, with zeros in between. */
  write(pieces: readonly Uint8Array[], offset: number): void {
    const bytes = Buffer.concat(pieces);
    this.#patches.push({ offset, bytes });
    this.grow(offset + bytes.length);
  }

  /** Zeros up to a size, if it is not that large. */
  grow(size: number): void {
    this.#size = Math.max(this.#size, size);
  }

  /** The checksum of [start, end). */
  crc(start: number, end: number): number {
    let crc = 0;
    this.#steps(start, end, (bytes) => {
      crc = crc32(bytes, crc);
    });
    return crc;
  }

  /** Writes all of it to another file. */
  copyTo(target: OpenFile): void {
    this.#steps(0, this.#size, (bytes, offset) => target.write([bytes], offset));
  }

  allocate(): void {
    this.#unused();
  }

  truncate(): void {
    this.#unused();
  }

  sync(): void {
    this.#unused();
  }

  close(): void {}

  #unused(): never {
    throw new Error('A patched file is only read and patched');
  }

  #steps(start: number, end: number, take: (bytes: Buffer, offset: number) => void): void {
    const buffer = Buffer.allocUnsafeSlow(Math.min(STEP_BYTES, Math.max(0, end - start)));
    for (let offset = start; offset < end; offset += buffer.length) {
      const bytes = buffer.subarray(0, Math.min(buffer.length, end - offset));
      this.read(bytes, offset);
      take(bytes, offset);
    }
  }

  #withFile<T>(use: (file: OpenFile) => T): T {
    const file = this.#files.open(this.#path, 'read');
    try {
      return use(file);
    } finally {
      file.close();
    }
  }
}
