/** The log of a cache: what `cache.ts` uses of it. */
export type { ScribeCursor } from './commands.ts';
export { type KeeperOptions, LogKeeper, type NoticeListener } from './keeper.ts';
export type {
  LogFiles,
  OpeningCursor,
  RecoverySummary,
  ScribeNotice,
  SnapshotSchedule,
  SnapshotSummary,
} from './message.ts';
export { LOG_METRICS, type LogStats, readLogStats, ringBytesOf } from './metrics.ts';
export { RemoteScribe } from './remote.ts';
