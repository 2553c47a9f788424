/** The log of a cache with a directory: the one place of this stage that knows which log that is. */
import { EmbeddedLog, type Files, lockedByCaller } from '../log/index.ts';
import { timedFiles } from './files.ts';
import type { OpenedLog, OpenLogOptions } from './start.ts';

/** Opens the embedded log on these files. The directory is locked by the keeper, in another thread. */
export function openEmbeddedLog(files: Files): (options: OpenLogOptions) => OpenedLog {
  return ({ data, clock, onSync, onNotice }) => {
    const { place, sync, segmentBytes, limitBytes, progress } = data;
    const log = EmbeddedLog.look({
      directory: data.directory,
      sync,
      lockDirectory: lockedByCaller,
      ...(place === undefined ? {} : { place }),
      ...(segmentBytes === undefined ? {} : { segmentBytes }),
      ...(limitBytes === undefined ? {} : { limitBytes }),
      ...(progress === undefined ? {} : { progress }),
      clock,
      files: timedFiles(files, clock, onSync),
      onNotice,
    });
    const { directory, logId, takeover } = log;
    return { log, files: { directory, logId, takeover } };
  };
}
