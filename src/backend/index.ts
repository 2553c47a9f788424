/** The databases behind a cache. */
export type * from './backend.ts';
export { checkBackend, checkCounters } from './check.ts';
export { deltaOf, numberOf } from './counter.ts';
export { mayMove, movesOf, sameCursor, sameCursors } from './cursors.ts';
export { joined } from './newest.ts';
export { BACKEND_SCHEMES, type MakeBackendOptions, makeBackend, schemeOf, schemesFor } from './open.ts';

/** Loaded on use: a cache needs none of it. */
export function loadTools(): Promise<typeof import('./tools.ts')> {
  return import('./tools.ts');
}
