/** The options of a cache, a handle, a server and a call: their types, as given and after checking. */
export type * from './types/cache.ts';
export type * from './types/calls.ts';
export type * from './types/handle.ts';
export type * from './types/log.ts';
export type * from './types/serve.ts';
export type * from './types/store.ts';
export type * from './types/units.ts';
