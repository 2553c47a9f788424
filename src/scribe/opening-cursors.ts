/**
 * The cursors of a log that is opened, each of one reader: what is behind it is owed to that reader. Before anything is
 * changed, an opening is refused that would leave a reader without its records: one that is not there, or one of which
 * memory is not told.
 */
import { CairnError } from '../errors.ts';
import { earlier, HISTORY_PREFIX, type LogPort, later, type Position } from '../log/index.ts';
import { countChanges } from './bring-back.ts';
import type { CursorsBefore, OpeningCursor, ScribeData, StoredPlace } from './message.ts';

export class OpeningCursors {
  readonly #log: LogPort;
  /** Of the readers that are there. */
  readonly #own: readonly OpeningCursor[];
  /** Of readers that are not. */
  readonly #orphans: readonly string[];

  constructor(log: LogPort, { cursor, otherCursors = [], refuseBehind }: ScribeData) {
    this.#log = log;
    this.#own = cursor === undefined ? otherCursors : [cursor, ...otherCursors];
    const isOwn = (name: string): boolean => this.#own.some((each) => each.name === name);
    this.#orphans =
      refuseBehind === undefined
        ? []
        : [...log.cursors().keys()].filter(
            (name) => (name === refuseBehind || name.startsWith(`${refuseBehind}:`)) && !isOwn(name),
          );
  }

  /** Where what is owed to a reader begins; undefined: there is none. */
  get owedFrom(): Position | undefined {
    return this.#own.length === 0 ? undefined : this.#own.map((each) => this.#beginOf(each)).reduce(earlier);
  }

  /** Throws `ERR_STORE_REFUSED`, or `ERR_LOG_CORRUPT`, if a reader would not get what it lacks. */
  refuseOwed(start: ScribeData['start'], logId: bigint | undefined): void {
    if (start === 'resume') return;
    for (const name of this.#orphans) this.#refuseBehind(name, `open it with ${optionOf(name)}`);
    for (const { name, stored } of this.#own) {
      if (start === 'log') {
        this.#refuseGap(name);
        continue;
      }
      // What the database says counts, not what the log has noted of it: it may have gone back since.
      const isOwn = stored !== undefined && stored.logId === logId && this.#isPlace(stored);
      this.#refuseBehind(name, "open it with recover: 'log'", isOwn ? stored.position : undefined);
    }
  }

  /**
   * Puts them in their places, and takes those away of readers that are not there and lack nothing. Returns where the
   * cursors that it has made or taken away were before.
   */
  place(start: ScribeData['start']): CursorsBefore {
    const before = new Map<string, Position | undefined>();
    for (const opening of this.#own) {
      const cursor = this.#log.cursor(opening.name);
      // One that is there stays where it is.
      const isThere = cursor.position() !== undefined;
      if (!isThere) before.set(opening.name, undefined);
      if (start === 'store') cursor.place(this.#log.committed);
      else if (!isThere) cursor.advance(this.#beginOf(opening));
    }
    // Where all readers have gone, the last of them may come back.
    if (this.#own.length === 0 || start === 'resume') return before;
    for (const each of this.#orphans.flatMap((name) => [name, `${HISTORY_PREFIX}${name}`])) {
      const cursor = this.#log.cursor(each);
      if (cursor.position() !== undefined) before.set(each, cursor.position());
      cursor.drop();
    }
    return before;
  }

  #beginOf({ name, position }: OpeningCursor): Position {
    return this.#log.cursor(name).position() ?? position ?? this.#log.oldestReadable;
  }

  // The log keeps everything behind the cursor. Where that is gone, memory may have no entry of what the database
  // lacks, and a load would find an older row.
  #refuseGap(name: string): void {
    const log = this.#log;
    const noted = log.cursors().get(name);
    const oldest = log.oldestReadable;
    if (noted === undefined || noted >= oldest) return;
    throw new CairnError(
      'ERR_LOG_CORRUPT',
      `The log in ${log.name} begins at position ${oldest}, and what its database may lack begins at ${noted}: records between them are gone. Nothing was changed. Put the files back; or bring all that is left to the database: npx cairn-cache rebuild --data ${log.name} --store DATABASE${nameOption(name)}`,
    );
  }

  // Whether the log has an entry that ends there, as this cursor says it; of its oldest position nothing can be said.
  #isPlace({ position, epoch, writer }: StoredPlace): boolean {
    const log = this.#log;
    if (position <= log.oldestReadable) return true;
    for (const entry of log.entries(log.oldestReadable)) {
      if (entry.end === position) return entry.epoch === epoch && entry.writer === writer;
    }
    return false;
  }

  #refuseBehind(name: string, how: string, has?: Position): void {
    const log = this.#log;
    const noted = log.cursors().get(name);
    if (noted === undefined) return;
    const position = later(has ?? noted, log.oldestReadable);
    let records = 0;
    for (const entry of log.entries(position)) if (entry.kind === 'records') records += countChanges(entry.records);
    if (records === 0) return;
    const count = records === 1 ? '1 record' : `${records} records`;
    const [, store] = split(name);
    const whose = store === undefined ? 'its database' : `the store ${store}`;
    throw new CairnError(
      'ERR_STORE_REFUSED',
      `The log in ${log.name} has ${count} that ${whose} does not have: ${how}. To leave them out of the database forever: npx cairn-cache log drop-cursor ${log.name} ${name}`,
    );
  }
}

// The name of a cursor is that of its reader, and of one of several: `store:sessions`.
function split(name: string): [reader: string, store: string | undefined] {
  const colon = name.indexOf(':');
  return colon === -1 ? [name, undefined] : [name.slice(0, colon), name.slice(colon + 1)];
}

function optionOf(name: string): string {
  const [reader, store] = split(name);
  return store === undefined ? reader : `stores: { ${store} }`;
}

function nameOption(name: string): string {
  const [, store] = split(name);
  return store === undefined ? '' : ` --name ${store}`;
}
