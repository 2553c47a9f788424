/** What the errors of MariaDB and MySQL, and of a connection to them, say about the next try. */
import { errorKind } from '../errors.ts';
import type { ErrorClass } from './backend.ts';

/** By the server's number, where the SQLSTATE says too little. */
const NUMBERS: Readonly<Record<number, ErrorClass>> = {
  1044: 'halt', // no permission for the database
  1045: 'halt', // wrong user or password
  1049: 'halt', // no such database
  1054: 'halt', // no such column
  1142: 'halt', // no permission for the table
  1143: 'halt', // no permission for the column
  1146: 'halt', // no such table
  1227: 'halt', // no permission
  1698: 'halt', // wrong user
  1118: 'permanent', // row too large
  1406: 'permanent', // too long for its column
  1264: 'permanent', // out of range
  1366: 'permanent', // wrong kind of value
  1644: 'permanent', // a trigger of the user's raised an error
  3819: 'permanent', // CHECK of MySQL
  4025: 'permanent', // CHECK of MariaDB
};

/** By the class of the SQLSTATE. Everything else is transient: a writer that goes on trying loses nothing. */
const CLASSES: Readonly<Record<string, ErrorClass>> = {
  '22': 'permanent', // data exception
  '23': 'permanent', // integrity constraint
  '44': 'permanent', // WITH CHECK OPTION
  '45': 'permanent', // SIGNAL of a trigger
  '28': 'halt', // authorization
  '3D': 'halt', // no database
  '42': 'halt', // missing table or column, no permission
};

export function classifyMariadb(error: unknown): ErrorClass {
  if (!(error instanceof Error)) return 'transient';
  const { code, errno, sqlState } = error as { code?: unknown; errno?: unknown; sqlState?: unknown };
  if (errorKind(error) !== undefined) return code === 'ERR_CLOSED' || code === 'ERR_QUEUE_FULL' ? 'transient' : 'halt';
  const byNumber = typeof errno === 'number' ? NUMBERS[errno] : undefined;
  return byNumber ?? CLASSES[String(sqlState).slice(0, 2)] ?? 'transient';
}
