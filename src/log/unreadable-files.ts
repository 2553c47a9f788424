/**
 * Files as they can be read from a disk with bad sectors: bytes that cannot be read are zeros, and a listener is
 * told of them. For surveys and repairs. Opening a log for use meets the error instead.
 */
import { type Files, isUnreadable, type OpenFile } from './files.ts';

/** What a disk or a system's page cache fails to read is at least as large, or a part of one. */
const BLOCK_BYTES = 4096;

/** A block of a file, or less at its end, that could not be read. */
export interface Unreadable {
  readonly path: string;
  readonly offset: number;
  readonly bytes: number;
}

/** `onUnreadable` is called each time that a block is met. */
export function readableFiles(files: Files, onUnreadable: (place: Unreadable) => void = () => {}): Files {
  return {
    ...files,
    open(path, mode) {
      const file = files.open(path, mode);
      return mode === 'read' ? readableFile(file, path, onUnreadable) : file;
    },
  };
}

function readableFile(file: OpenFile, path: string, onUnreadable: (place: Unreadable) => void): OpenFile {
  return {
    size: () => file.size(),
    read(target, offset) {
      try {
        return file.read(target, offset);
      } catch (error) {
        if (!isUnreadable(error)) throw error;
      }
      const end = Math.min(offset + target.length, file.size());
      for (let start = offset; start < end; ) {
        const blockEnd = Math.min(end, (Math.floor(start / BLOCK_BYTES) + 1) * BLOCK_BYTES);
        const block = target.subarray(start - offset, blockEnd - offset);
        try {
          file.read(block, start);
        } catch (error) {
          if (!isUnreadable(error)) throw error;
          block.fill(0);
          onUnreadable({ path, offset: start, bytes: block.length });
        }
        start = blockEnd;
      }
      return Math.max(0, end - offset);
    },
    write: (pieces, offset) => file.write(pieces, offset),
    allocate: (offset, bytes) => file.allocate(offset, bytes),
    truncate: (bytes) => file.truncate(bytes),
    sync: () => file.sync(),
    close: () => file.close(),
  };
}
