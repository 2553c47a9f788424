/**
 * Dead letters that are tried again. The change goes through the log as a new one, unless a later change of its key is
 * there:
 *
 *     watch the keys -> drain -> ask for the letter -> make the change, if no key was changed since -> drain -> drop it
 *
 * A change that was made before the watch is in the database after the drain, which then says that it supersedes the
 * letter. A change that is made after the watch voids it, and the letter is tried anew. So the change is made again
 * only if it still is the newest of its key.
 *
 * No letter is lost, and none has its effect twice: the transaction that writes the new change, or puts it aside once
 * more, marks the letter as superseded. It is dropped behind that. A process that dies before leaves a letter that is
 * superseded, and has no effect any more.
 *
 * Letters of an atomic batch, and those of one key, belong together: one is tried again with all that are not
 * superseded, at one moment.
 *
 * **An addition** of a counter does not go through the log again. Memory has its result, and so has the log; it is the
 * row that lacks what was added. A record more would be another addition, which supersedes no letter of one: a process
 * that dies between the two would have it added twice. So the database adds to the row and removes the letter in one
 * transaction. A load answers the same before and after, because it adds the letters of a key to the number of its row.
 * If the database refuses once more, the letter stays. Beside a set or a delete of its key that is tried again, an
 * addition is not made: that supersedes it.
 */
import type { AddChange, AddedAgain, Change, DeadLetters, KeptDeadLetter } from '../backend/index.ts';
import { CairnError, reasonOf } from '../errors.ts';
import { Code, type RetryHandle } from '../native.ts';
import type { RuleSet } from '../rules/index.ts';

/** What has become of a dead letter that was to be tried again. */
export interface RetriedDeadLetter {
  readonly id: bigint;
  /**
   * `retried`: the database has the change. `refused`: it has refused it again, and a new dead letter has the change.
   * Both have dropped this one, except that of an addition that was refused again, which stays. The others have left it
   * as it is: `superseded`: a later change of the key is written.
   * `expired`: the value would have expired by now. `failed`: see `reason`. `not-found`: there is no dead letter of
   * this id.
   */
  readonly outcome: 'retried' | 'refused' | 'superseded' | 'expired' | 'failed' | 'not-found';
  /** Why it has failed, or was refused. */
  readonly reason: string | undefined;
}

/** Dead letters over the connection of the writer. */
export interface RetriedLetters extends Pick<DeadLetters, 'list' | 'drop'> {
  /** Undefined: the database cannot. */
  addAgain(id: bigint): Promise<AddedAgain | undefined>;
}

/** What is done of a cache. */
export interface LetterRetryOptions {
  readonly letters: RetriedLetters;
  readonly handle: RetryHandle;
  readonly rules: RuleSet | undefined;
  /** Resolves when the database has everything that was done so far. */
  readonly drain: () => Promise<void>;
  /** Loads the value of a key, if it is not in memory. */
  readonly load: (key: Buffer) => Promise<void>;
  readonly wallMs: () => number;
}

/** Letters of one question; each has a value. */
const PAGE = 32;
/** Letters, about, that are tried between two drains. */
const ROUND_LETTERS = 256;
/** How often a letter is tried whose keys change meanwhile without superseding it: a clear, an eviction. */
const TRIES_MAX = 10;

/** A letter without its value. */
interface Listed {
  readonly id: bigint;
  readonly name: string;
  readonly key: Buffer;
  /** That of an atomic batch which it shares with others. */
  readonly batch: string | undefined;
  readonly isSuperseded: boolean;
  readonly error: string;
}

/** Letters that are tried at one moment. */
interface Unit {
  readonly letters: readonly Listed[];
  tries: number;
}

/** A unit whose changes were made again. */
interface Made {
  readonly letters: readonly Listed[];
  /** The last letter that there was before. */
  readonly after: bigint;
}

export class LetterRetry {
  readonly #options: LetterRetryOptions;
  readonly #listed = new Map<bigint, Listed>();
  /** The newest letter of each key, by the name of the key. */
  readonly #newest = new Map<string, Listed>();
  readonly #results = new Map<bigint, RetriedDeadLetter>();
  #lastId = 0n;

  constructor(options: LetterRetryOptions) {
    this.#options = options;
  }

  /**
   * Resolves to what has become of each letter, and of those that belong to it, by their ids. Rejects with the error of
   * a database that cannot be asked, and of a writer that has stopped; call it again then.
   */
  async run(ids: readonly bigint[] | 'all'): Promise<RetriedDeadLetter[]> {
    await this.#list();
    const live = [...this.#listed.values()].filter(({ isSuperseded }) => !isSuperseded);
    let units = unitsOf(live, ids === 'all' ? live.map(({ id }) => id) : ids);
    if (ids !== 'all') {
      for (const id of ids) {
        const letter = this.#listed.get(id);
        if (letter === undefined) this.#end(id, 'not-found');
        else if (letter.isSuperseded) this.#end(id, 'superseded');
      }
    }
    while (units.length > 0) {
      const round = units.splice(0, Math.max(1, countUpTo(units, ROUND_LETTERS)));
      units = [...(await this.#round(round)), ...units];
    }
    return [...this.#results.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  // Those that are to be tried once more.
  async #round(units: readonly Unit[]): Promise<Unit[]> {
    const { handle, drain } = this.#options;
    const keys = [...new Map(units.flatMap(({ letters }) => letters.map(({ name, key }) => [name, key]))).entries()];
    if (!handle.beginRetry(keys.map(([, key]) => key))) throw new CairnError('ERR_CLOSED', 'The cache was closed');
    const places = new Map(keys.map(([name], place) => [name, place]));
    const again: Unit[] = [];
    const made: Made[] = [];
    try {
      await drain();
      await this.#list();
      for (const unit of units) await this.#try(unit, places, made, again);
    } finally {
      handle.endRetry();
    }
    if (made.length > 0) {
      await drain();
      await this.#list();
      for (const { letters, after } of made) await this.#settle(letters, after);
    }
    return again;
  }

  async #try(unit: Unit, places: ReadonlyMap<string, number>, made: Made[], again: Unit[]): Promise<void> {
    const { handle, load } = this.#options;
    const byKey = new Map<string, { readonly letters: Listed[]; change: Exclude<Change, AddChange> }>();
    const additions: Listed[] = [];
    for (const listed of unit.letters) {
      if (this.#results.has(listed.id)) continue;
      const kept = await this.#ask(listed.id);
      const outcome = this.#outcomeOf(kept);
      if (outcome !== undefined) {
        this.#end(listed.id, ...outcome);
        continue;
      }
      const { change } = kept!;
      if (change.kind === 'add') {
        additions.push(listed);
        continue;
      }
      const before = byKey.get(listed.name);
      before?.letters.push(listed);
      if (before === undefined) byKey.set(listed.name, { letters: [listed], change });
      // A touch that was put aside beside a set has changed the expiry of that.
      else if (change.kind !== 'touch') before.change = change;
    }
    for (const listed of additions) {
      const beside = byKey.get(listed.name);
      if (beside === undefined || beside.change.kind === 'touch') await this.#addAgain(listed.id);
      else beside.letters.push(listed);
    }
    // A touch is alone, unless the set or delete of its key was superseded a moment ago.
    for (const [name, { letters, change }] of byKey) {
      if (change.kind !== 'touch' || byKey.size === 1) continue;
      again.push({ letters, tries: unit.tries });
      byKey.delete(name);
    }
    if (byKey.size === 0) return;
    const letters = [...byKey.values()].flatMap((found) => found.letters);
    const code = handle.executeRetry([...byKey].flatMap(([name, { change }]) => rowOf(change, places.get(name)!)));
    const fail = (reason: string): void => {
      for (const { id } of letters) this.#end(id, 'failed', reason);
    };
    if (code === Code.stored || code === Code.found) made.push({ letters, after: this.#lastId });
    else if (code === Code.closed) throw new CairnError('ERR_CLOSED', 'The cache was closed');
    else if (code === Code.exists || code === Code.notResident) {
      if (++unit.tries === TRIES_MAX) return fail('its keys are cleared or changed again and again');
      try {
        if (code === Code.notResident) await load(letters[0]!.key);
        again.push(unit);
      } catch (error) {
        fail(reasonOf(error));
      }
    } else fail(REASONS.get(code) ?? `the cache answers ${code}`);
  }

  async #addAgain(id: bigint): Promise<void> {
    const added = await this.#options.letters.addAgain(id);
    if (added === undefined) this.#end(id, 'failed', 'the database cannot make an addition again: set the key');
    else if (added.outcome === 'added') this.#end(id, 'retried');
    else if (added.outcome === 'refused') this.#end(id, 'refused', added.reason);
    else this.#end(id, (await this.#ask(id)) === undefined ? 'not-found' : 'superseded');
  }

  // Undefined: its change is to be made again.
  #outcomeOf(kept: KeptDeadLetter | undefined): [RetriedDeadLetter['outcome'], string?] | undefined {
    const { rules, wallMs } = this.#options;
    if (kept === undefined) return ['not-found'];
    if (kept.isSuperseded) return ['superseded'];
    const { change } = kept;
    if (rules?.writes(change.key) === false) return ['failed', 'a rule skips the key'];
    const isOver = change.kind !== 'delete' && change.expiresWallMs !== 0 && change.expiresWallMs <= wallMs();
    return isOver ? ['expired'] : undefined;
  }

  // The database has the new changes, or has put them aside: both supersede the letters.
  async #settle(letters: readonly Listed[], after: bigint): Promise<void> {
    const refused = letters.map(({ name }) => this.#newest.get(name)!).find(({ id }) => id > after);
    const drop: bigint[] = [];
    for (const { id } of letters) {
      const kept = await this.#ask(id);
      if (kept !== undefined && !kept.isSuperseded) {
        this.#end(id, 'failed', 'the database has not written its change');
        continue;
      }
      drop.push(id);
      if (refused === undefined) this.#end(id, 'retried');
      else this.#end(id, 'refused', refused.error);
    }
    await this.#options.letters.drop(drop);
  }

  #end(id: bigint, outcome: RetriedDeadLetter['outcome'], reason?: string): void {
    this.#results.set(id, { id, outcome, reason });
  }

  async #ask(id: bigint): Promise<KeptDeadLetter | undefined> {
    const [found] = await this.#options.letters.list(1, id - 1n);
    return found?.id === id ? found : undefined;
  }

  // Those that have come since.
  async #list(): Promise<void> {
    for (;;) {
      const page = await this.#options.letters.list(PAGE, this.#lastId);
      for (const { id, change, cursor, isSuperseded, error } of page) {
        const { key, atomic } = change;
        const batch = atomic === undefined ? undefined : `${cursor.lane} ${cursor.position} ${atomic}`;
        const listed = { id, name: nameOf(key), key, batch, isSuperseded, error };
        this.#listed.set(id, listed);
        this.#newest.set(listed.name, listed);
        this.#lastId = id;
      }
      if (page.length < PAGE) return;
    }
  }
}

const REASONS: ReadonlyMap<Code, string> = new Map([
  [Code.notFound, 'there is no value whose expiry it could change'],
  [Code.logFull, 'the log has no room'],
  [Code.noMemory, 'the cache has no room for the value now'],
  [Code.tooLarge, 'the value, or its batch, is larger than the cache may have'],
]);

function nameOf(key: Buffer): string {
  return key.toString('latin1');
}

// The letters of some ids, each with all that belong to it, in the order in which they came.
function unitsOf(live: readonly Listed[], ids: readonly bigint[]): Unit[] {
  const byId = new Map(live.map((letter) => [letter.id, letter]));
  const byBond = new Map<string, Listed[]>();
  for (const letter of live) {
    for (const bond of bondsOf(letter)) {
      const bound = byBond.get(bond);
      if (bound === undefined) byBond.set(bond, [letter]);
      else bound.push(letter);
    }
  }
  const seen = new Set<Listed>();
  const units: Unit[] = [];
  for (const id of ids) {
    const first = byId.get(id);
    if (first === undefined || seen.has(first)) continue;
    const letters = [first];
    seen.add(first);
    for (let at = 0; at < letters.length; at++) {
      for (const bond of bondsOf(letters[at]!)) {
        for (const other of byBond.get(bond)!) {
          if (seen.has(other)) continue;
          seen.add(other);
          letters.push(other);
        }
      }
    }
    units.push({ letters: letters.sort((a, b) => (a.id < b.id ? -1 : 1)), tries: 0 });
  }
  return units;
}

function bondsOf({ name, batch }: Listed): string[] {
  return batch === undefined ? [`key ${name}`] : [`key ${name}`, `batch ${batch}`];
}

function countUpTo(units: readonly Unit[], most: number): number {
  let letters = 0;
  const end = units.findIndex((unit) => {
    letters += unit.letters.length;
    return letters > most;
  });
  return end === -1 ? units.length : end;
}

// A row of executeRetry().
function rowOf(change: Exclude<Change, AddChange>, place: number): unknown[] {
  switch (change.kind) {
    case 'set':
      return [place, 0, change.value, change.codec, change.clientFlags, change.expiresWallMs];
    case 'delete':
      return [place, 1, undefined, 0, 0, 0];
    case 'touch':
      return [place, 2, undefined, 0, 0, change.expiresWallMs];
  }
}
