import type { Backend } from '../../src/index.ts';

interface Table {
  getRange(): Iterable<{ key: Uint8Array; value: never }>;
}

export const POISON: Buffer;
export function openTables(path: string): {
  root: { close(): Promise<void> };
  rows: { getRange(): Iterable<{ key: Uint8Array; value: { value: Uint8Array; expiresWallMs: number } }> };
  cursors: Table;
  history: { getRange(): Iterable<{ value: [kind: string, key: string, version: string] }> };
};
declare const make: () => Backend;
export default make;
