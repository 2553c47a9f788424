/** Write-back: carries the log of a cache to its database. */
export { quietClock } from './clock.ts';
export { CALL_TIMEOUT_MS, Connection } from './connection.ts';
export { EarlyWriter } from './early-writer.ts';
export { EarlyWriters } from './early-writers.ts';
export { WriteBackKeeper, type WriteBackListener } from './keeper.ts';
export type { RetriedDeadLetter } from './letter-retry.ts';
export { LoaderService, type LoadLimits, type LoadSource } from './loader.ts';
export { cursorOf, STORE_CURSOR, type StoreSeat, type WriteBackNotice, type WriteBackOptions } from './message.ts';
export { readWriteBackStats, type WriteBackStats, writeBackStatNames } from './metrics.ts';
export type { RebuildProgress, Rebuilt } from './rebuild.ts';
export { rebuildDirectory } from './rebuild-directory.ts';
export { RemoteWriteBack, type WriteBackActions } from './remote.ts';
export { Restores } from './restores.ts';
export { connector, isUnfit, restoreFrom, type SharedStore, storeConnector } from './store.ts';
export type { CarriedStore } from './store-keeper.ts';
export { WarmUp, type WarmUpData } from './warm-up.ts';
export { forgetWarmUp, newWarmUp, readWarmUpStats, type WarmUpStats } from './warm-up-numbers.ts';
