import { readFileSync } from 'node:fs';

/** The version of this package, as its package.json says; that lies two folders up from src/server and dist/server. */
export const version: string = (
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string }
).version;
