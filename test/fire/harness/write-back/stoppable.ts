// The second database of a cache with several stores: noted.ts over the backend that an address names, and while a file
// is there, as a database that is down.

import { existsSync } from 'node:fs';
import { type Backend, type MakeBackendOptions, makeBackend } from '../../../../src/backend/index.ts';
import { noted } from '../../../../src/torture/noted.ts';

/** The address of the database. */
export const DATABASE_VARIABLE = 'CAIRN_TORTURE_OTHER_DATABASE';
/** The path of the file. */
export const STOP_VARIABLE = 'CAIRN_TORTURE_OTHER_STOP';

class Stopped extends Error {}

async function makeStoppable(options: MakeBackendOptions): Promise<Backend> {
  const backend = noted(await makeBackend(process.env[DATABASE_VARIABLE]!, options));
  const path = process.env[STOP_VARIABLE]!;
  const check = (): void => {
    if (existsSync(path)) throw new Stopped(`${backend.name} is stopped`);
  };
  return {
    ...backend,
    readCursors: async (lanes) => {
      check();
      return backend.readCursors(lanes);
    },
    load: async (keys) => {
      check();
      return backend.load(keys);
    },
    // Also behind the transaction: then the writer does not know whether it came.
    write: async (batch) => {
      check();
      const outcome = await backend.write(batch);
      check();
      return outcome;
    },
    classify: (error) => (error instanceof Stopped ? 'transient' : backend.classify(error)),
  };
}

// biome-ignore lint/style/noDefaultExport: a module for `stores` has it.
export default makeStoppable;
