/** What the errors of MariaDB and MySQL, and of a connection to them, say about the next try. */
import type { ErrorClass } from './backend.ts';
import { classOfOwn } from './own-errors.ts';

/** ER_NET_PACKET_TOO_LARGE */
export const MESSAGE_TOO_LARGE = 1153;

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
  [MESSAGE_TOO_LARGE]: 'halt', // a message above max_allowed_packet, of which the connection has ended
  1118: 'permanent', // row too large
  1265: 'permanent', // cut off
  1526: 'permanent', // no partition has such rows
  1406: 'permanent', // too long for its column
  1264: 'permanent', // out of range
  1366: 'permanent', // wrong kind of value
  1644: 'permanent', // a trigger of the user's raised an error
  3819: 'permanent', // CHECK of MySQL
  4025: 'permanent', // CHECK of MariaDB
};

/** By the class of the SQLSTATE. Everything else is transient: a writer that goes on trying loses nothing. */
const CLASSES: Readonly<Record<string, ErrorClass>> = {
  '09': 'permanent', // triggered action exception
  '22': 'permanent', // data exception
  '23': 'permanent', // integrity constraint
  '44': 'permanent', // WITH CHECK OPTION
  '45': 'permanent', // SIGNAL of a trigger
  '28': 'halt', // authorization
  '3D': 'halt', // no database
  '42': 'halt', // missing table or column, no permission
};

/** A message that the server would not take, and that was not sent: the connection is sound. */
export class MessageTooLarge extends Error {
  readonly errno = MESSAGE_TOO_LARGE;
}

export function classifyMariadb(error: unknown): ErrorClass {
  if (!(error instanceof Error)) return 'transient';
  if (error instanceof MessageTooLarge) return 'permanent';
  const own = classOfOwn(error);
  if (own !== undefined) return own;
  const { errno, sqlState } = error as { errno?: unknown; sqlState?: unknown };
  const byNumber = typeof errno === 'number' ? NUMBERS[errno] : undefined;
  return byNumber ?? CLASSES[String(sqlState).slice(0, 2)] ?? 'transient';
}
