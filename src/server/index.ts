/** Servers that memcached clients talk to. */
export type { DisconnectReason, ServerAddress } from './front.ts';
export { MemcachedServer, type MemcachedServerEvents } from './memcached-server.ts';
export type { ServedCache } from './settings.ts';
