/** The log of a cache: what `cache.ts` uses of it. */
export type { ScribeCommands, ScribeCursor } from './commands.ts';
export { type KeeperOptions, LogKeeper, type NoticeListener } from './keeper.ts';
export {
  errorFrom,
  type LogFiles,
  type OpeningAnswer,
  type OpeningCursor,
  type PlainError,
  plainError,
  type RecoverySummary,
  type ScribeNotice,
  type SnapshotSchedule,
  type SnapshotSummary,
  type StoredPlace,
} from './message.ts';
export { LOG_METRICS, type LogStats, readLogStats, ringBytesOf } from './metrics.ts';
export type { Carrier, Filler, ProgressListener, Written } from './opening-help.ts';
export { RecordFinder } from './record-finder.ts';
export { RemoteScribe } from './remote.ts';
export { attachScribe } from './start.ts';
export { type Answer, Unanswered } from './unanswered.ts';
