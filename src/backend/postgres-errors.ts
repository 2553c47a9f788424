/** What the errors of PostgreSQL and of a connection to it say about the next try. */
import type { ErrorClass } from './backend.ts';
import { classOfOwn } from './own-errors.ts';

/**
 * By the class of the SQLSTATE, its first two characters. Everything else is transient: a writer that goes on trying
 * loses nothing, one that puts a change aside or stops may be wrong.
 */
const CLASSES: Readonly<Record<string, ErrorClass>> = {
  '09': 'permanent', // triggered action exception
  '22': 'permanent', // data exception
  '23': 'permanent', // integrity constraint violation
  '44': 'permanent', // WITH CHECK OPTION violation
  '54': 'permanent', // program limit exceeded: a row of an index that is too large
  P0: 'permanent', // a trigger of the user's raised an error
  '28': 'halt', // invalid authorization
  '2F': 'halt', // routine exceptions: of a trigger
  '38': 'halt',
  '39': 'halt',
  '3B': 'transient', // savepoint exception
  '3D': 'halt', // no such database
  '3F': 'halt', // no such schema
  '42': 'halt', // missing table or column, no permission
  '0L': 'halt', // invalid grantor
  '0P': 'halt', // invalid role
};

const CODES: Readonly<Record<string, ErrorClass>> = {
  XX001: 'halt', // data corrupted
  XX002: 'halt', // index corrupted
  // Of certificates: Node's codes.
  CERT_HAS_EXPIRED: 'halt',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'halt',
  ERR_TLS_CERT_ALTNAME_INVALID: 'halt',
  SELF_SIGNED_CERT_IN_CHAIN: 'halt',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'halt',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'halt',
};

/** What pg says without a code: a password that is missing or of the wrong kind, encryption that is not to be had. */
const HALTING = /^SASL|does not support SSL|unsupported authentication/i;

export function classifyPostgres(error: unknown): ErrorClass {
  if (!(error instanceof Error)) return 'transient';
  const own = classOfOwn(error);
  if (own !== undefined) return own;
  const code = codeOf(error) ?? '';
  if (code in CODES) return CODES[code]!;
  if (/^[0-9A-Z]{5}$/.test(code)) return CLASSES[code.slice(0, 2)] ?? 'transient';
  return HALTING.test(error.message) ? 'halt' : 'transient';
}

export function codeOf(error: unknown): string | undefined {
  const { code } = error as { code?: unknown };
  return typeof code === 'string' ? code : undefined;
}
