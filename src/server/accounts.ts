/**
 * The file of names and passwords that clients log in with. It is read as bytes, and no message has any of them: a line
 * that is wrong is named by its number.
 */
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { CairnRangeError, namingOptions } from '../errors.ts';
import { ACCOUNT_BYTES_MAX, ACCOUNTS_MAX } from '../limits.ts';
import type { LoginSettings } from './settings.ts';

/** Each account has a line with a colon and its end, and blank lines may stand between them. */
const FILE_BYTES_MAX = 2 * ACCOUNTS_MAX * (ACCOUNT_BYTES_MAX + 3);

const [BLANK, COLON, LINE_FEED, RETURN] = [0x20, 0x3a, 0x0a, 0x0d];

/**
 * The accounts of the file, as the addon takes them: `USER:PASSWORD` and a line feed, each. The name ends at the first
 * colon. Throws `ERR_INVALID_ARGUMENT` with the option, the file and the line.
 */
export function readAccounts(login: LoginSettings): Buffer {
  const lines = linesOf(read(login));
  const accounts: Buffer[] = [];
  for (const [index, line] of lines.entries()) {
    if (line.length === 0) continue;
    const complaint = complaintOf(line, login);
    if (complaint !== undefined) throw unfit(login, `line ${index + 1} ${complaint}`);
    accounts.push(line, Buffer.of(LINE_FEED));
  }
  const count = accounts.length / 2;
  if (count === 0) throw unfit(login, 'it is empty, and no client could log in');
  if (count > ACCOUNTS_MAX) throw unfit(login, `it has ${count} names, more than ${ACCOUNTS_MAX}`);
  return Buffer.concat(accounts);
}

function read(login: LoginSettings): Buffer {
  let file: number | undefined;
  try {
    file = openSync(login.file, 'r');
    const stats = fstatSync(file);
    if (stats.isDirectory()) throw Object.assign(new Error(), { code: 'EISDIR' });
    if (stats.size > FILE_BYTES_MAX) throw unfit(login, `it is larger than ${FILE_BYTES_MAX} bytes`);
    return readFileSync(file);
  } catch (cause) {
    if (cause instanceof CairnRangeError) throw cause;
    const { code = '' } = cause as NodeJS.ErrnoException;
    const why: Record<string, string> = {
      ENOENT: 'there is no such file',
      EACCES: 'it is not permitted',
      EISDIR: 'it is a directory',
    };
    throw unfit(login, why[code] ?? code);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

function linesOf(bytes: Buffer): Buffer[] {
  const lines: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const found = bytes.indexOf(LINE_FEED, at);
    const end = found < 0 ? bytes.length : found;
    lines.push(bytes.subarray(at, end > at && bytes[end - 1] === RETURN ? end - 1 : end));
    at = end + 1;
  }
  return lines;
}

/** What is wrong with a line, behind its number; undefined: nothing. */
function complaintOf(line: Buffer, { option }: LoginSettings): string | undefined {
  const colon = line.indexOf(COLON);
  if (colon < 0) return 'is not user:password';
  if (colon === 0) return 'has no user';
  if (colon === line.length - 1) return 'has no password';
  if (line.includes(0)) return 'has a zero byte';
  if (line.length - 1 > ACCOUNT_BYTES_MAX) return `is longer than ${ACCOUNT_BYTES_MAX + 1} bytes`;
  // A client names the user up to the first blank.
  if (option === 'authFile' && line.subarray(0, colon).includes(BLANK)) return 'has a user with a blank';
  return undefined;
}

function unfit({ option, file }: LoginSettings, why: string): CairnRangeError {
  return namingOptions(
    (message) => new CairnRangeError('ERR_INVALID_ARGUMENT', message),
    (say) => `Cannot use ${say(option)} ${file}: ${why}`,
  );
}
