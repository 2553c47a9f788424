/** Loads the package that talks to a database, on first use: a cache without that database does not need it. */
import { CairnError } from '../errors.ts';

/** Imports a package by its name; tests pass one that finds nothing. */
export type Importer = (name: string) => Promise<unknown>;

const importPackage: Importer = (name) => import(name);

/**
 * The exports of a package. `install`: the name and version that are tested. Throws `ERR_DRIVER_MISSING` with the
 * command that installs it; a package that is there and does not load throws what it throws.
 */
export async function loadDriver(
  database: string,
  name: string,
  install: string,
  importer: Importer = importPackage,
): Promise<Record<string, unknown>> {
  let exported: Record<string, unknown>;
  try {
    exported = (await importer(name)) as Record<string, unknown>;
  } catch (error) {
    if (!isMissing(error, name)) throw error;
    throw new CairnError('ERR_DRIVER_MISSING', `${database} needs the package ${name}: npm install ${install}`, {
      cause: error,
    });
  }
  // Packages of either kind: a CommonJS module is the default export of its namespace.
  const inner = exported['default'];
  return typeof inner === 'object' && inner !== null
    ? { ...(inner as Record<string, unknown>), ...exported }
    : exported;
}

function isMissing(error: unknown, name: string): boolean {
  const { code, message } = error as { code?: unknown; message?: unknown };
  // A package that is there may lack a package that it needs: that is another error.
  return (code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND') && String(message).includes(`'${name}'`);
}
