/** The log of a cache: what `cache.ts` uses of it. */
export { type KeeperOptions, LogKeeper, type NoticeListener } from './keeper.ts';
export type { RecoverySummary, ScribeNotice, SnapshotSchedule, SnapshotSummary } from './message.ts';
export { LOG_METRICS, type LogStats, readLogStats, ringBytesOf } from './metrics.ts';
export { RemoteScribe } from './remote.ts';
