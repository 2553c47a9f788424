/** Options of a cache: what may be given, what is assumed otherwise, and the only checks on it. */
export {
  checkClock,
  checkEntries,
  checkName,
  resolveOptions,
  resolvePromiseOptions,
  resolveRaw,
} from './options/cache.ts';
export { checkBoolean, checkChoice, checkInteger, checkNames } from './options/check.ts';
export { checkAck, resolveOnRecovery } from './options/log.ts';
export type * from './options/types.ts';
export { parseDuration, parseSize } from './options/units.ts';
