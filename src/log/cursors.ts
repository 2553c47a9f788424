/**
 * The cursors' file: every named cursor with its position, written anew with each change, synced and renamed over the
 * last one. The one before is kept as `cursors.old`: cursors go ahead, so old ones are safe if the file is damaged;
 * readers see some entries again. A cursor that has gone back belongs to a reader that looks for itself where it is.
 *
 *     header    0  128  see docs/log-format.md: magic "CAIRNCUR", log id, count, bytes and checksum of what follows
 *     cursor    0    8  position
 *               8    4  bytes of the name
 *              12       name in UTF-8
 */
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { outOfRange, wrongType } from '../errors.ts';
import { isWellFormed } from '../request/codec.ts';
import { ioError } from './chain.ts';
import { type Files, isUnreadable, openIfThere, systemCode } from './files.ts';
import { CURSORS_MAGIC, checkFileHeader, Fault, FILE_HEADER_BYTES, sealFileHeader, startFileHeader } from './format.ts';
import { isHistory, type PortCursor } from './log-port.ts';
import type { Position } from './request-log.ts';

/** Cursors of one log: each keeps the log from being cut, and all are written with each change of one. */
export const CURSOR_COUNT_MAX = 1000;
/** The longest name of a cursor, in UTF-16 units. */
export const CURSOR_NAME_LENGTH_MAX = 200;

/** A file of cursors is at most this large. */
const FILE_BYTES_MAX: number = FILE_HEADER_BYTES + CURSOR_COUNT_MAX * (12 + 3 * CURSOR_NAME_LENGTH_MAX);

export const CURSORS_FILE = 'cursors';
export const CURSORS_FILE_OLD = 'cursors.old';

export type CursorTable = ReadonlyMap<string, Position>;

/** `firm`: the log keeps everything behind it. */
export type CursorKind = 'firm' | 'history';

export function encodeCursors(logId: bigint, cursors: CursorTable): Buffer {
  const entries = [...cursors].map(([name, position]) => {
    const text = Buffer.from(name, 'utf8');
    const entry = Buffer.alloc(12 + text.length);
    entry.writeBigUInt64LE(position, 0);
    entry.writeUInt32LE(text.length, 8);
    text.copy(entry, 12);
    return entry;
  });
  const body = Buffer.concat(entries);
  const header = startFileHeader(CURSORS_MAGIC);
  header.writeBigUInt64LE(logId, 16);
  header.writeUInt32LE(cursors.size, 24);
  header.writeUInt32LE(body.length, 28);
  header.writeUInt32LE(crc32(body), 32);
  return Buffer.concat([sealFileHeader(header), body]);
}

export function decodeCursors(bytes: Buffer): { logId: bigint; cursors: Map<string, Position> } | Fault {
  const fault = checkFileHeader(bytes, CURSORS_MAGIC);
  if (fault !== undefined) return fault;
  const count = bytes.readUInt32LE(24);
  const body = bytes.subarray(FILE_HEADER_BYTES);
  if (body.length !== bytes.readUInt32LE(28) || crc32(body) !== bytes.readUInt32LE(32)) {
    return new Fault('does not fit what follows it');
  }
  const cursors = new Map<string, Position>();
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + 12 > body.length) return new Fault('counts more cursors than there are');
    const end = at + 12 + body.readUInt32LE(at + 8);
    if (end > body.length) return new Fault('is followed by a cursor that is cut off');
    cursors.set(body.toString('utf8', at + 12, end), body.readBigUInt64LE(at));
    at = end;
  }
  if (at !== body.length || cursors.size !== count) return new Fault('counts fewer cursors than there are');
  return { logId: bytes.readBigUInt64LE(16), cursors };
}

/** What the directory has of cursors. */
export interface FoundCursors {
  readonly cursors: CursorTable;
  readonly logId: bigint | undefined;
  /** Why the newest file was not used. */
  readonly fault: Fault | undefined;
  /** The positions are those of the file before it. */
  readonly isOld: boolean;
}

/** Reads the newest file that is sound. With a fault and not `isOld`, there is none. */
export function readCursors(files: Files, directory: string): FoundCursors {
  const none: FoundCursors = { cursors: new Map(), logId: undefined, fault: undefined, isOld: false };
  const newest = readOne(files, join(directory, CURSORS_FILE));
  if (newest !== undefined && !(newest instanceof Fault)) return { ...newest, fault: undefined, isOld: false };
  if (newest?.newerVersion !== undefined) return { ...none, fault: newest };
  const old = readOne(files, join(directory, CURSORS_FILE_OLD));
  if (old === undefined && newest === undefined) return none;
  // Between the two renames of a change there is only the old one, which is then the newest.
  if (old !== undefined && !(old instanceof Fault)) return { ...old, fault: newest, isOld: true };
  return { ...none, fault: newest ?? (old instanceof Fault ? old : undefined) };
}

function readOne(files: Files, path: string): ReturnType<typeof decodeCursors> | undefined {
  const file = openIfThere(files, path);
  if (file === undefined) return undefined;
  try {
    const size = file.size();
    if (size > FILE_BYTES_MAX) return new Fault(`is that of a file of ${size} bytes`);
    const bytes = Buffer.alloc(size);
    return decodeCursors(bytes.subarray(0, file.read(bytes, 0)));
  } catch (error) {
    if (!isUnreadable(error)) throw error;
    return new Fault(`cannot be read: ${systemCode(error)}`);
  } finally {
    file.close();
  }
}

export interface CursorsOptions {
  readonly files: Files;
  readonly directory: string;
  readonly logId: bigint;
  /** How far the log is; throws if it is closed. */
  committed(): Position;
  /** Where the log begins. */
  oldest(): Position;
  /** Makes the log durable up to a position. */
  makeDurable(position: Position): void;
  /** A cursor does not need any more what it did. */
  moved(): void;
}

/** The cursors of an open log. */
export class Cursors {
  readonly #options: CursorsOptions;
  #table: CursorTable;

  constructor(options: CursorsOptions, table: CursorTable) {
    this.#options = options;
    this.#table = table;
  }

  get table(): CursorTable {
    return this.#table;
  }

  /** The positions of those that the log keeps everything for, or of those of history. */
  positions(kind: CursorKind): Position[] {
    return [...this.#table]
      .filter(([name]) => isHistory(name) === (kind === 'history'))
      .map(([, position]) => position);
  }

  /** Moves the cursors of history that are before a position to it: the log begins there now. */
  giveWay(position: Position): void {
    const table = new Map(this.#table);
    for (const [name, each] of this.#table) if (isHistory(name) && each < position) table.set(name, position);
    this.#table = table;
    try {
      this.#write(table);
    } catch {
      // On a full disk the file is as it was, and its cursors are moved when the log gives way again.
    }
  }

  cursor(name: string): PortCursor {
    const isName = typeof name === 'string' && name !== '' && name.length <= CURSOR_NAME_LENGTH_MAX;
    if (!isName || !isWellFormed(name)) {
      throw wrongType('name', `the name of a cursor, of 1 to ${CURSOR_NAME_LENGTH_MAX} characters`, name);
    }
    return {
      name,
      position: () => this.#table.get(name),
      advance: (position) => this.#move(name, position, this.#table.get(name)),
      place: (position) => this.#move(name, position, undefined),
      drop: () => this.#drop(name),
    };
  }

  // Not to before `from`; undefined: to wherever the log can be read.
  #move(name: string, position: Position, from: Position | undefined): void {
    const committed = this.#options.committed();
    const current = this.#table.get(name);
    if (current === position) return;
    if (typeof position !== 'bigint') throw wrongType('position', 'a bigint', position);
    const least = from ?? this.#options.oldest();
    if (position < least || position > committed) {
      throw outOfRange('position', `from ${least} to ${committed}, what is committed`, position);
    }
    if (current === undefined && this.#table.size >= CURSOR_COUNT_MAX) {
      throw outOfRange('the number of cursors', `at most ${CURSOR_COUNT_MAX}`, this.#table.size + 1);
    }
    // A cursor that a power cut finds behind the end of the log would be proof of damage.
    this.#options.makeDurable(position);
    this.#replace(new Map(this.#table).set(name, position));
  }

  #drop(name: string): void {
    this.#options.committed();
    const table = new Map(this.#table);
    if (table.delete(name)) this.#replace(table);
  }

  #replace(table: CursorTable): void {
    this.#write(table);
    this.#options.moved();
  }

  #write(table: CursorTable): void {
    const { files, directory, logId } = this.#options;
    try {
      writeCursors(files, directory, logId, table);
    } catch (error) {
      if (systemCode(error) === undefined) throw error;
      throw ioError(`write ${join(directory, CURSORS_FILE)}`, error);
    }
    this.#table = table;
  }
}

/** Replaces the cursors' file. When it throws, the old or the new one is there, whole. */
export function writeCursors(files: Files, directory: string, logId: bigint, cursors: CursorTable): void {
  const path = join(directory, CURSORS_FILE);
  const temporary = `${path}.tmp`;
  const file = files.open(temporary, 'create');
  try {
    file.write([encodeCursors(logId, cursors)], 0);
    file.sync();
  } finally {
    file.close();
  }
  try {
    files.rename(path, join(directory, CURSORS_FILE_OLD));
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
  }
  files.rename(temporary, path);
  files.syncDirectory(directory);
}
