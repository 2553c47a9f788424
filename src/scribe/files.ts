/**
 * The log's files with a stop-watch: how long the disk takes to sync is what decides how fast acknowledged writes are.
 */
import type { Files, LogClock } from '../log/index.ts';

/** Files that say how long each sync of a segment took. */
export function timedFiles(files: Files, clock: LogClock, onSync: (ms: number) => void): Files {
  return {
    ...files,
    open(path, mode) {
      const file = files.open(path, mode);
      if (mode === 'read' || !/\.log(\.tmp)?$/.test(path)) return file;
      return {
        size: () => file.size(),
        read: (target, offset) => file.read(target, offset),
        write: (pieces, offset) => file.write(pieces, offset),
        allocate: (offset, bytes) => file.allocate(offset, bytes),
        truncate: (bytes) => file.truncate(bytes),
        sync() {
          const begunMs = clock.steadyMs();
          file.sync();
          onSync(clock.steadyMs() - begunMs);
        },
        close: () => file.close(),
      };
    },
  };
}
