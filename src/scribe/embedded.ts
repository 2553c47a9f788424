/** The log of a cache with a directory: the one place of this stage that knows which log that is. */
import { EmbeddedLog, type Files, type LogPort, lockedByCaller } from '../log/index.ts';
import { timedFiles } from './files.ts';
import type { OpenLogOptions } from './start.ts';

/** Opens the embedded log on these files. The directory is locked by the keeper, in another thread. */
export function openEmbeddedLog(files: Files): (options: OpenLogOptions) => LogPort {
  return ({ data, clock, onSync, onNotice }) => {
    const { directory, place, sync, segmentBytes, limitBytes } = data;
    return EmbeddedLog.look({
      directory,
      sync,
      lockDirectory: lockedByCaller,
      ...(place === undefined ? {} : { place }),
      ...(segmentBytes === undefined ? {} : { segmentBytes }),
      ...(limitBytes === undefined ? {} : { limitBytes }),
      clock,
      files: timedFiles(files, clock, onSync),
      onNotice,
    });
  };
}
