// The rows of a database that no cache has open.

import { scanRows } from '../../src/torture/scanned.ts';

/** Values by key. */
export async function rowsIn(store: string): Promise<Map<string, string>> {
  return new Map(Array.from(await scanRows(store), ([key, { value }]) => [key, value]));
}
