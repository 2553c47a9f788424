/** Options of a cache: what may be given, what is assumed otherwise, and the only checks on it. */
export { type GivenAddress, isLoopback } from './options/address.ts';
export {
  checkEntries,
  checkName,
  type HandleOptions,
  type OpeningOptions,
  resolveHandleOptions,
  resolveOptions,
} from './options/cache.ts';
export { checkBoolean, checkChoice, checkInteger, checkNames, suggestion } from './options/check.ts';
export { timer } from './options/kinds.ts';
export type * from './options/loader.ts';
export { checkAck, hasLevel, levelsOf } from './options/log.ts';
export {
  CACHE_OPTIONS,
  type Checked,
  checkAll,
  type Flag,
  LOADS_OPTIONS,
  type Row,
  RULE_OPTIONS,
  SERVE_OPTIONS,
  SNAPSHOT_OPTIONS,
  TLS_OPTIONS,
  type TlsSettings,
  WARM_UP_OPTIONS,
  WRITE_BACK_OPTIONS,
} from './options/table.ts';
export type * from './options/types.ts';
export { parseDuration, parseSize } from './options/units.ts';
