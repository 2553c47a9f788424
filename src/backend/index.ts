/** The databases behind a cache. */
export type {
  Backend,
  BackendLevel,
  Change,
  Cursor,
  DeadLetter,
  ErrorClass,
  Loaded,
  Row,
  RowValue,
  WriteBatch,
  WriteOutcome,
} from './backend.ts';
