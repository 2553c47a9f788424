/** The databases behind a cache. */
export type * from './backend.ts';
export { checkBackend } from './check.ts';
export { sameCursor } from './cursors.ts';
export { BACKEND_SCHEMES, type MakeBackendOptions, makeBackend, schemeOf, schemesFor } from './open.ts';
