/** The log's face: what other stages use. Those that only read use LogReader and the types. */

export { recordsLost } from './chain.ts';
export { describeBatches, describeProblems, describeRepair, describeSurvey } from './describe.ts';
export { EmbeddedLog } from './embedded-log.ts';
export { eraOf } from './epoch.ts';
export { FENCE_START, Fence, type Fenced, type FenceState, type Takeover } from './fence.ts';
export { type Files, nodeFiles, type OpenFile } from './files.ts';
export { FORMAT_VERSION } from './format.ts';
export {
  type DirectoryLock,
  type EmbeddedLogOptions,
  type LockDirectory,
  type LogClock,
  type LogNotice,
  lockedByCaller,
} from './log-options.ts';
export * from './log-port.ts';
export { type Place, placeOf } from './place.ts';
export { LogReader, type LogReaderOptions } from './reader.ts';
export {
  type FoundRecord,
  type RecordPlace,
  type RecordSource,
  recordAt,
  recordOf,
  recordsOf,
} from './record-places.ts';
export { type RecordsFrom, type RecoverOptions, type Recovery, recover } from './recover.ts';
export { type Repaired, type RepairOptions, repair } from './repair.ts';
export type * from './request-log.ts';
export { earlier, later } from './request-log.ts';
export { hasLog, type Survey, type SurveyOptions, survey } from './survey.ts';
export type { SyncPolicy } from './sync-policy.ts';
export { PROGRESS_BYTES, Watermark } from './watermark.ts';
