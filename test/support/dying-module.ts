// A database whose thread dies of a fault of its module.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Backend } from '../../src/index.ts';
import { LMDB_MODULE } from './lmdb.ts';

/**
 * A module in this folder whose database, LMDB, has its thread die in this call, which is never answered; of writes, in
 * one with changes.
 */
export function dyingModule(folder: string, call: keyof Backend): string {
  const file = join(folder, 'dies.mjs');
  writeFileSync(
    file,
    `import make from ${JSON.stringify(LMDB_MODULE)};
     export default () => {
       const backend = make();
       const call = backend.${call}.bind(backend);
       backend.${call} = (given) => {
         if (given?.changes?.length === 0) return call(given);
         setImmediate(() => { throw new Error('a fault of the module'); });
         return new Promise(() => {});
       };
       return backend;
     };`,
  );
  return file;
}
