/**
 * One process at a time in a log's directory, and one thread of it: the system's lock on the directory and on the file
 * `lock` in it, which no crash leaves behind. The thread that took it has it until it releases it or ends; other
 * threads of the process are excluded like other processes, so the lock is taken outside of the log's thread, which may
 * be restarted.
 */
import { join, resolve, toNamespacedPath } from 'node:path';
import { pid } from 'node:process';
import { CairnError } from '../errors.ts';
import { native, numberWord, Word } from '../native.ts';

interface LockExports {
  /**
   * From 1: the lock's number, and `words[Word.number]` is 1 if it stands though the file is removed. 0: another has
   * it, whose id `words[Word.number]` has. -1: `takeMessage()` says why not.
   */
  lockFile(path: string): number;
  unlockFile(lock: number): void;
}

const { lockFile, unlockFile } = native as unknown as LockExports;

/**
 * Locks a directory, which must exist. Throws `ERR_LOG_LOCKED` with the owner's process id, and `ERR_LOG_IO` if the
 * lock's file cannot be made or locked. `release` may be called twice. `isLost`: whether another process can take the
 * directory after the file `lock` was removed from it.
 */
export function lockByAddon(directory: string): { readonly isLost: 'never' | 'with-file'; release(): void } {
  // By its whole path: the process may go to another directory while it has the lock. Windows takes paths of more than
  // 260 characters in one form only, in which Node gives them for its own calls.
  const lock = lockFile(toNamespacedPath(join(resolve(directory), 'lock')));
  if (lock === 0) throw locked(directory, numberWord(Word.number));
  if (lock < 0) throw new CairnError('ERR_LOG_IO', `Cannot lock ${join(directory, 'lock')}: ${native.takeMessage()}`);
  const isLost = numberWord(Word.number) === 1 ? 'never' : 'with-file';
  let isHeld = true;
  return {
    isLost,
    release() {
      if (!isHeld) return;
      isHeld = false;
      unlockFile(lock);
    },
  };
}

function locked(directory: string, owner: number): CairnError {
  const who =
    owner === 0
      ? 'a process that its lock file does not name'
      : owner === pid
        ? `this process, ${pid}`
        : `process ${owner}`;
  return new CairnError(
    'ERR_LOG_LOCKED',
    `The log in ${directory} is in use by ${who}. A directory belongs to one process: of several processes (cluster, PM2) each needs its own directory, or one serves the cache to the others (serve)`,
  );
}
