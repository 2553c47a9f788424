/**
 * Which directory a log is in, whatever its name is by now. A directory that is renamed or removed while a log in it is
 * open leaves the log with its open file, and with a name that may lead to another directory, of another process. So
 * the log looks before each call by name, and before it acknowledges anything, whether the name still leads to the
 * directory that was locked; and where only the file `lock` keeps other processes out, whether that is still there.
 *
 * Between the look and the call another directory may take the place. That is as long as a system call takes, and what
 * it can leave there is a file with the ending `.tmp`: nothing gets a name, and nothing is acknowledged, without
 * another look.
 */
import { join } from 'node:path';
import { type Files, systemCode } from './files.ts';

/** What the system says of a directory and of the lock file in it. */
export interface Place {
  readonly directory: string;
  /** Undefined: the directory itself is locked, and the file is of no matter. */
  readonly lock: string | undefined;
}

export const LOCK_FILE = 'lock';

/** Counts as an error of the system: the directory may come back, and all calls work again then. */
export class PlaceLost extends Error {
  readonly code = 'ESTALE';
}

export function placeOf(files: Files, directory: string, isLost: 'never' | 'with-file' = 'never'): Place {
  return {
    directory: files.identify(directory),
    lock: isLost === 'never' ? undefined : files.identify(join(directory, LOCK_FILE)),
  };
}

/** Throws PlaceLost. */
export function checkPlace(files: Files, directory: string, place: Place): void {
  if (identityOf(files, directory) !== place.directory) {
    throw new PlaceLost('the directory that was opened has been moved or removed');
  }
  if (place.lock !== undefined && identityOf(files, join(directory, LOCK_FILE)) !== place.lock) {
    throw new PlaceLost('the file lock in it has been removed, and no longer keeps other processes out');
  }
}

function identityOf(files: Files, path: string): string | undefined {
  try {
    return files.identify(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return undefined;
    throw error;
  }
}

/** Files whose calls by name are made only as long as the place is what it was. `check` throws if it is not. */
export function placedFiles(files: Files, check: () => void): Files {
  const placed = <Arguments extends unknown[], Result>(call: (...args: Arguments) => Result) => {
    return (...args: Arguments): Result => {
      check();
      return call(...args);
    };
  };
  return {
    ...files,
    list: placed((directory) => files.list(directory)),
    open: placed((path, mode) => files.open(path, mode)),
    rename: placed((from, to) => files.rename(from, to)),
    remove: placed((path) => files.remove(path)),
    syncDirectory: placed((path) => files.syncDirectory(path)),
  };
}
