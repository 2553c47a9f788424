/** The databases behind a cache. */
export type {
  Backend,
  BackendLevel,
  Change,
  Cursor,
  DeadLetter,
  DeadLetters,
  DeleteChange,
  ErrorClass,
  KeptDeadLetter,
  Loaded,
  Row,
  RowValue,
  SetChange,
  TouchChange,
  WriteBatch,
  WriteOutcome,
} from './backend.ts';
export { checkBackend } from './check.ts';
export { sameCursor } from './cursors.ts';
export { BACKEND_SCHEMES, type MakeBackendOptions, makeBackend, schemeOf } from './open.ts';
