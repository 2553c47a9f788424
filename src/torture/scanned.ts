/** The rows of a database as the backend itself reads them, whatever the database is. */
import { type Backend, makeBackend } from '../backend/index.ts';
import { type Effects, effectsOf, type TortureRow } from './database.ts';
import { effectIn, isEffect } from './noted.ts';

/** A backend for one use: it is opened, asked and closed. */
export async function withBackend<T>(store: string, use: (backend: Backend) => Promise<T>): Promise<T> {
  const backend = await makeBackend(store);
  try {
    await backend.open();
    return await use(backend);
  } finally {
    await backend.close();
  }
}

/** By key, without those that note effects. */
export function scanRows(store: string): Promise<ReadonlyMap<string, TortureRow>> {
  return withBackend(store, async (backend) => {
    const found = new Map<string, TortureRow>();
    for await (const { rows } of backend.scan()) {
      for (const { key, value, clientFlags, expiresWallMs } of rows) {
        if (isEffect(key)) continue;
        found.set(key.toString('latin1'), { value: value.toString('latin1'), clientFlags, expiresWallMs });
      }
    }
    return found;
  });
}

/** The effects that the rows of noted.ts hold. */
export function scanEffects(store: string): Promise<Effects> {
  return withBackend(store, async (backend) => {
    const found: string[] = [];
    for await (const { rows } of backend.scan()) {
      for (const { key } of rows) if (isEffect(key)) found.push(effectIn(key));
    }
    return effectsOf(found);
  });
}
