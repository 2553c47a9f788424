/** Write-back: carries the log of a cache to its database. */
export { WriteBackKeeper, type WriteBackListener } from './keeper.ts';
export { STORE_CURSOR, type WriteBackNotice } from './message.ts';
export { readWriteBackStats, WRITE_BACK_STAT_NAMES, type WriteBackStats } from './metrics.ts';
export { RemoteWriteBack, type WriteBackActions } from './remote.ts';
