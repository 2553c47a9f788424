/** `cairn rebuild`, from its arguments on: the directory is locked, its log opened, and the database made. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { CairnError } from '../errors.ts';
import { EmbeddedLog, hasLog } from '../log/index.ts';
import { lockByAddon } from '../native/directory-lock.ts';
import { CACHE_OPTIONS } from '../options.ts';
import { readKeptRules } from './kept-rules.ts';
import { type RebuildProgress, type Rebuilt, rebuild } from './rebuild.ts';
import { connector } from './store.ts';

/** Brings what a directory has to a database. Rejects with why it cannot be done. */
export async function rebuildDirectory(
  data: string,
  store: string,
  onProgress: (progress: RebuildProgress) => void,
): Promise<Rebuilt> {
  const directory = resolve(data);
  if (!existsSync(directory) || !hasLog(directory))
    throw new CairnError('ERR_INVALID_ARGUMENT', `There is no log in ${directory}`);
  const target = CACHE_OPTIONS.store.check(store, '--store', () => 0)!;
  if (target.kind === 'object') throw new CairnError('ERR_INVALID_ARGUMENT', 'Expected the address of a database');
  const rules = readKeptRules(directory) ?? [];
  const log = EmbeddedLog.look({ directory, lockDirectory: lockByAddon });
  try {
    return await rebuild({ log, connect: await connector(target, { directory, rules }), rules, onProgress });
  } finally {
    log.close();
  }
}
