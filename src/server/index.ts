/** Servers that memcached clients talk to. */
export {
  type DisconnectReason,
  MemcachedServer,
  type MemcachedServerEvents,
  type ServerAddress,
} from './memcached-server.ts';
export type { ServedCache, ServeOptions } from './settings.ts';
