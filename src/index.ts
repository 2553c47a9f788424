/// <reference types="node" preserve="true" />
/** The public API, whole. Nothing else is public. */

export type { AtomicBatch, BatchSetOptions } from './atomic.ts';
export type {
  Backend,
  BackendLevel,
  Change,
  Cursor,
  CursorPlace,
  DeadLetter,
  ErrorClass,
  HistoryRow,
  Loaded,
  Row,
  RowValue,
  SweepPiece,
  SweepPlace,
  Swept,
  WriteBatch,
  WriteOutcome,
} from './backend/index.ts';
export { Cache } from './cache.ts';
export type { DeadLettersOptions, DrainOptions, OfStore, WriteBack } from './cache-write-back.ts';
export { type Config, defineConfig } from './config.ts';
export type { CloseOptions } from './ending.ts';
export {
  CairnError,
  CairnRangeError,
  CairnTypeError,
  type ErrorCode,
  type ErrorKind,
  errorKind,
  type ManyResult,
} from './errors.ts';
export type {
  FetchInfo,
  FetchManyOptions,
  FetchOptions,
  FetchOutcome,
  LoadedMany,
  ManyContext,
  ManyLoader,
  WrapOptions,
} from './fetch/index.ts';
export type {
  AckLevel,
  AttachOptions,
  CacheOptions,
  CallOptions,
  Duration,
  EffectiveOptions,
  LoadContext,
  Loader,
  LoadsOptions,
  PromiseOptions,
  RawOption,
  RecoveryProgress,
  RuleOptions,
  RuleValue,
  ServeFront,
  ServeOptions,
  ServeProtocol,
  SetManyOptions,
  SetOptions,
  Size,
  SnapshotOptions,
  StoreMode,
  StoreOption,
  SyncOption,
  TlsOptions,
  TlsVerify,
  TlsVersion,
  WalkOptions,
  WarmUpOptions,
  WriteBackOptions,
} from './options.ts';
export type {
  CachePromises,
  PromisedArithmeticOptions,
  PromisedAtomicBatch,
  PromisedSetManyOptions,
  PromisedSetOptions,
  PromiseStats,
} from './promises/index.ts';
export type { CacheEvents, RemovalEvent, RemovalOptions, RemovalReason } from './removals.ts';
export type { ArithmeticOptions, CasResult, EntryInfo, Key, StoreResult, ValueWithCas } from './request/arguments.ts';
export type { ValueKind } from './request/codec.ts';
export { PackedKeys, PackedValues } from './request/packed.ts';
export type { OwnTableRule, OwnValueRule, Rule } from './rules/index.ts';
export type { LogStats, RecoverySummary, ScribeNotice as LogNotice, SnapshotSummary } from './scribe/index.ts';
export { serve } from './serve.ts';
export {
  type DisconnectReason,
  MemcachedServer,
  type MemcachedServerEvents,
  type ServerAddress,
} from './server/index.ts';
export type { CacheStats } from './stats.ts';
export type { LoadResult } from './walks.ts';
export type { RetriedDeadLetter, WarmUpStats, WriteBackNotice, WriteBackStats } from './write-back/index.ts';
