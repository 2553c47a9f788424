// Says whether a correct cache can have given a history: whether for each key there is an order of all operations, each
// taking effect once between its question and its answer, in which every answer is the one that a single register would
// have given (linearizability), over crashes as well: what was acknowledged has an effect in every later life of the
// cache, what was not has one until the life that it was sent to ends, or never (durable linearizability: Izraelevitz,
// Mendes, Scott, "Linearizability of Persistent Memory Objects under a Full-System-Crash Failure Model", DISC 2016).
//
// The search is that of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) with Lowe's memory of
// configurations that were met before ("Testing for linearizability", 2017), key by key, which is enough because
// linearizability is local (Herlihy and Wing, 1990). A configuration is what has been put in order and the state that
// it leads to. Apart from a few operations, everything before the first answer that is still to be explained is in it:
// those few, that answer and the state name it exactly.
//
// What keeps it fast where much is unknown: an operation that only reads is put in order as soon as it can be; all
// values that are never read are one value; of unknown operations that do the same only the first one is tried; an
// unknown write whose value was read has happened.
//
// Versions (cas tokens) are checked beside: one that was told of two values, one that is lower than another that was
// told before the question, and two swaps with one token are violations each.

import { type Answer, describeOperation, type History, type Operation, type Verb } from './history.ts';
import { ABSENT, IMPOSSIBLE, isHit, normalValue, Register, type State, type Step, UNSEEN } from './history-register.ts';

export interface CheckOptions {
  /**
   * `explained` (default): a miss needs a delete, a clear or an expiry. `allowed`: for caches that evict; a value must
   * still never go back.
   */
  misses?: 'explained' | 'allowed';
  /** How far apart the clocks of the cache and the history may run, where entries expire. Default 1000. */
  clockSlackMs?: number;
  /** The search for one key stops, undecided, after this many configurations. */
  configurationsMax?: number;
}

/**
 * `lost`: an acknowledged write has no effect. `stale`: a read gives what an acknowledged write of the same life has
 * replaced. `taken-back`: what was read is gone with a crash. `resurrected`: what was deleted is back. `invented`: a
 * value that no operation wrote. `version-repeated`, `version-back`: see above. `impossible`: anything else.
 */
export type ViolationKind =
  | 'lost'
  | 'stale'
  | 'taken-back'
  | 'resurrected'
  | 'invented'
  | 'version-repeated'
  | 'version-back'
  | 'impossible';

export interface Violation {
  readonly kind: ViolationKind;
  readonly key: string;
  readonly message: string;
}

export interface Verdict {
  /** At most one order violation per key, the first one, and any number about versions. */
  readonly violations: readonly Violation[];
  /** Keys with too much at the same time for the search, with the place where it stopped. */
  readonly undecided: readonly string[];
  readonly keys: number;
  readonly operations: number;
  readonly configurations: number;
}

/** Checks a history. */
export function checkHistory(history: History, options: CheckOptions = {}): Verdict {
  const byKey = groupByKey(history);
  const violations: Violation[] = [];
  const undecided: string[] = [];
  let configurations = 0;
  let operations = 0;
  for (const [key, ofKey] of byKey) {
    operations += ofKey.length;
    violations.push(...checkSwaps(key, ofKey), ...checkVersions(key, ofKey, history));
    const search = new Search(ofKey, history, options);
    const isLegal = search.run();
    if (isLegal === undefined) undecided.push(search.place());
    else if (!isLegal) violations.push(search.explain(key));
    configurations += search.configurations;
  }
  return { violations, undecided, keys: byKey.size, operations, configurations };
}

/** Of what may be lost: only that no version was told of two values. */
export function checkTokens(history: History): Verdict {
  const byKey = groupByKey(history);
  const violations = [...byKey].flatMap(([key, operations]) => checkVersions(key, operations, history));
  return {
    violations: violations.filter(({ kind }) => kind === 'version-repeated'),
    undecided: [],
    keys: byKey.size,
    operations: history.operations.length,
    configurations: 0,
  };
}

/** Throws what is wrong, if anything is, or not known to be right. */
export function expectLegal(history: History, options: CheckOptions = {}): Verdict {
  const verdict = checkHistory(history, options);
  if (verdict.violations.length > 0) {
    const shown = verdict.violations.slice(0, 5).map(({ kind, message }) => `${kind}: ${message}`);
    throw new Error(`No cache can have given this history (${verdict.violations.length} keys):\n${shown.join('\n')}`);
  }
  const [undecided] = verdict.undecided;
  if (undecided !== undefined) throw new Error(`Too many orders are possible to decide on: ${undecided}`);
  return verdict;
}

function groupByKey({ operations }: History): Map<string, Operation[]> {
  const byKey = new Map<string, Operation[]>();
  const clears: Operation[] = [];
  // Of what was asked at the same moment.
  const places = new Map<Operation, number>();
  for (const [place, operation] of operations.entries()) {
    if (operation.answer === 'refused') continue;
    places.set(operation, place);
    if (operation.verb === 'clear') {
      clears.push(operation);
      continue;
    }
    const list = byKey.get(operation.key);
    if (list === undefined) byKey.set(operation.key, [operation]);
    else list.push(operation);
  }
  for (const list of byKey.values()) {
    if (clears.length > 0) list.push(...clears);
    list.sort((a, b) => a.askedAt - b.askedAt || places.get(a)! - places.get(b)!);
  }
  return byKey;
}

function endOf(operation: Operation, history: History): number {
  return history.lives[operation.life]?.endedAt ?? Number.POSITIVE_INFINITY;
}

/** When an operation has had its effect at the latest: at its answer, or with its life. */
function untilOf(operation: Operation, history: History): number {
  return Math.min(operation.answeredAt ?? Number.POSITIVE_INFINITY, endOf(operation, history));
}

// ---- the order of the operations of one key ----

const DERIVING: ReadonlySet<Verb> = new Set(['append', 'prepend', 'incr', 'decr']);
const STORING: ReadonlySet<Verb> = new Set(['set', 'add', 'replace', 'cas']);

class Search {
  readonly #history: History;
  readonly #register: Register;
  readonly #configurationsMax: number;
  /** By operation, in the order of their questions. */
  readonly #steps: Step[] = [];
  /** Its effect is not known: it may be left out when its time is over. */
  readonly #isOptional: boolean[] = [];
  /** Operations with the same number here do the same, and may do it until the same time. */
  readonly #twins: (number | undefined)[] = [];
  /** The neighbours in the same session; -1: none. Twins have none: it does not matter whose they are. */
  readonly #before: number[] = [];
  readonly #after: number[] = [];

  // Questions and answers in the order of time, as a list from which operations are lifted when they are put in order.
  // Place 0 is its head.
  readonly #operationAt: number[] = [-1];
  readonly #isAnswer: boolean[] = [false];
  readonly #question: number[] = [];
  readonly #answer: number[] = [];
  readonly #next: number[] = [];
  readonly #previous: number[] = [];
  readonly #isApplied: boolean[] = [];
  readonly #isLifted: boolean[] = [];

  #state: State = ABSENT;
  #left = 0;
  readonly #metSmall = new Set<number>();
  readonly #met = new Set<string>();
  /** The answer that could not be explained by any order, and the states in which it was met. */
  #worst = 0;
  readonly #worstStates = new Set<State>();
  configurations = 0;

  constructor(operations: readonly Operation[], history: History, options: CheckOptions) {
    this.#history = history;
    this.#configurationsMax = options.configurationsMax ?? 3_000_000;
    const seen = new SeenValues(operations);
    this.#register = new Register({
      missesAllowed: options.misses === 'allowed',
      clockSlackMs: options.clockSlackMs ?? 1000,
      isSeen: (value) => seen.has(value),
    });
    this.#prepare(operations, seen);
    this.#link();
  }

  #prepare(operations: readonly Operation[], seen: SeenValues): void {
    const last = new Map<number, number>();
    const twins = new Map<string, number>();
    for (const operation of operations) {
      const { verb, life, session } = operation;
      const until = untilOf(operation, this.#history);
      let answer = normalAnswer(operation.answer);
      // The answer of such a read is unknown and it changes nothing; other requests came when no process could do them.
      if (answer === undefined && (verb === 'get' || operation.askedAt >= until)) continue;
      let latest = until;
      if (answer === undefined && STORING.has(verb)) {
        const readAt = seen.firstReadOf(operation.value!);
        if (readAt !== undefined) {
          answer = 'stored';
          latest = Math.min(until, Math.max(readAt, operation.askedAt));
        }
      }
      const own = operation.value ?? '';
      const step: Step = {
        operation,
        verb,
        value: own === '' || seen.has(own) ? own : UNSEEN,
        answer,
        expected: operation.token === undefined ? undefined : seen.valueOfVersion(operation.token),
        from: operation.askedAt,
        until: latest,
      };
      const i = this.#steps.push(step) - 1;
      const isOptional = answer === undefined;
      this.#isOptional.push(isOptional);
      this.#before.push(-1);
      this.#after.push(-1);
      if (isOptional && (operation.value === undefined || step.value === UNSEEN) && operation.ttlMs === undefined) {
        const effect = verb === 'take' || verb === 'clear' ? 'delete' : verb;
        const name = `${effect} ${operation.delta} ${operation.token} ${life}`;
        const number = twins.get(name) ?? twins.size;
        twins.set(name, number);
        this.#twins.push(number);
        continue;
      }
      this.#twins.push(undefined);
      const before = last.get(session) ?? -1;
      this.#before[i] = before;
      if (before >= 0) this.#after[before] = i;
      last.set(session, i);
    }
  }

  #link(): void {
    const moments: { at: number; isAnswer: boolean; i: number }[] = [];
    for (const [i, step] of this.#steps.entries()) {
      moments.push({ at: step.from, isAnswer: false, i });
      if (step.until !== Number.POSITIVE_INFINITY) moments.push({ at: step.until, isAnswer: true, i });
      if (!this.#isOptional[i]) this.#left++;
      this.#answer.push(0);
      this.#isApplied.push(false);
      this.#isLifted.push(false);
    }
    // Of what happens at the same time, questions come first: their true order is unknown.
    moments.sort((a, b) => a.at - b.at || Number(a.isAnswer) - Number(b.isAnswer));
    for (const { isAnswer, i } of moments) {
      const place = this.#operationAt.push(i) - 1;
      this.#isAnswer.push(isAnswer);
      (isAnswer ? this.#answer : this.#question)[i] = place;
    }
    const count = this.#operationAt.length;
    for (let place = 0; place < count; place++) {
      this.#next.push(place + 1 === count ? 0 : place + 1);
      this.#previous.push(place === 0 ? count - 1 : place - 1);
    }
  }

  /** Whether there is an order; undefined if that would take too long to find out. */
  run(): boolean | undefined {
    // What was put in order, what it changed, and where to look for something else in its place: see #move().
    const lifted: number[] = [];
    const states: State[] = [];
    const resume: number[] = [];
    let from = 0;
    while (this.#left > 0) {
      const move = this.#move(from);
      if (move !== undefined) {
        const { i, state, next } = move;
        lifted.push(i);
        states.push(this.#state);
        resume.push(next);
        this.#lift(i, state !== undefined);
        this.#state = state ?? this.#state;
        from = 0;
        // Only what had an alternative can lead to where another way has led.
        if (next === FORCED || this.#isNew()) continue;
        if (this.configurations > this.#configurationsMax) return undefined;
      }
      for (;;) {
        const i = lifted.pop();
        if (i === undefined) return false;
        this.#unlift(i);
        this.#state = states.pop()!;
        from = resume.pop()!;
        if (from !== FORCED) break;
      }
    }
    return true;
  }

  // The next thing to put in order, from a given one of the ways on. Ways are numbered so that the first is 0 and each
  // move says the one behind it: first operations that must happen, in the order of their questions, each as things are
  // and as if its key was absent; then leaving out the one whose time is over; then those that may happen.
  #move(from: number): { i: number; state: State | undefined; next: number } | undefined {
    const next = this.#next;
    const first = next[0]!;
    if (from === 0) {
      for (let place = first; place !== 0 && !this.#isAnswer[place]; place = next[place]!) {
        const i = this.#operationAt[place]!;
        if (this.#isOptional[i] || !this.#isFree(i, true)) continue;
        if (this.#changesNothing(this.#steps[i]!)) return { i, state: this.#state, next: FORCED };
      }
    }
    let way = 0;
    let answer = 0;
    for (let place = first; place !== 0; place = next[place]!) {
      if (this.#isAnswer[place]) {
        answer = place;
        break;
      }
      const i = this.#operationAt[place]!;
      if (this.#isOptional[i]) continue;
      for (const seenAs of SEEN_AS) {
        if (way++ < from) continue;
        const state = this.#try(i, seenAs);
        if (state !== undefined) return { i, state, next: way };
      }
    }
    const late = answer === 0 ? -1 : this.#operationAt[answer]!;
    if (late >= 0 && this.#isOptional[late] && way++ >= from) return { i: late, state: undefined, next: way };
    const tried = new Set<number>();
    for (let place = first; place !== 0 && place !== answer; place = next[place]!) {
      const i = this.#operationAt[place]!;
      if (!this.#isOptional[i]) continue;
      const twins = this.#twins[i];
      if (twins !== undefined) {
        if (tried.has(twins)) continue;
        tried.add(twins);
      }
      for (const seenAs of SEEN_AS) {
        if (way++ < from) continue;
        const state = this.#try(i, seenAs);
        if (state !== undefined && state !== this.#state) return { i, state, next: way };
      }
    }
    this.#note(answer);
    return undefined;
  }

  // Whether it can happen now, and would change nothing whenever it did: then it may as well happen now.
  #changesNothing(step: Step): boolean {
    const register = this.#register;
    if (!register.isRead(step)) return false;
    if (register.next(this.#state, step, 'as-is') === this.#state) return true;
    return register.mayBeGone(this.#state, step) && register.next(this.#state, step, 'absent') === this.#state;
  }

  #try(i: number, seenAs: 'as-is' | 'absent'): State | undefined {
    const step = this.#steps[i]!;
    if (seenAs === 'absent' && !this.#register.mayBeGone(this.#state, step)) return undefined;
    if (!this.#isFree(i, false)) return undefined;
    const state = this.#register.next(this.#state, step, seenAs);
    return state === IMPOSSIBLE ? undefined : state;
  }

  // Whether its session allows it now: what was asked before has happened, or may be left out, and nothing that was
  // asked later has happened. `strictly`: nothing at all of what was asked before is left.
  #isFree(i: number, strictly: boolean): boolean {
    for (let j = this.#before[i]!; j >= 0; j = this.#before[j]!) {
      if (this.#isLifted[j]) {
        if (!this.#isOptional[j]) break;
      } else if (strictly || !this.#isOptional[j]) {
        return false;
      }
    }
    if (!this.#isOptional[i]) return true;
    for (let j = this.#after[i]!; j >= 0; j = this.#after[j]!) {
      if (this.#isApplied[j]) return false;
      if (!this.#isOptional[j]) break;
    }
    return true;
  }

  #lift(i: number, isApplied: boolean): void {
    this.#unlink(this.#question[i]!);
    if (this.#answer[i] !== 0) this.#unlink(this.#answer[i]!);
    this.#isLifted[i] = true;
    this.#isApplied[i] = isApplied;
    if (!this.#isOptional[i]) this.#left--;
  }

  #unlift(i: number): void {
    if (this.#answer[i] !== 0) this.#relink(this.#answer[i]!);
    this.#relink(this.#question[i]!);
    this.#isLifted[i] = false;
    this.#isApplied[i] = false;
    if (!this.#isOptional[i]) this.#left++;
  }

  #unlink(place: number): void {
    this.#next[this.#previous[place]!] = this.#next[place]!;
    this.#previous[this.#next[place]!] = this.#previous[place]!;
  }

  #relink(place: number): void {
    this.#next[this.#previous[place]!] = place;
    this.#previous[this.#next[place]!] = place;
  }

  /** Whether this configuration is met for the first time. */
  #isNew(): boolean {
    if (++this.configurations > this.#configurationsMax) return false;
    let waiting = 0;
    let place = this.#next[0]!;
    for (; place !== 0 && !this.#isAnswer[place]; place = this.#next[place]!) waiting++;
    if (waiting <= 1) {
      const name = place * 2 ** 26 + this.#state;
      if (this.#metSmall.has(name)) return false;
      this.#metSmall.add(name);
      return true;
    }
    let name = `${place} ${this.#state}`;
    for (let at = this.#next[0]!; at !== place; at = this.#next[at]!) name += ` ${at}`;
    if (this.#met.has(name)) return false;
    this.#met.add(name);
    return true;
  }

  #note(answer: number): void {
    if (answer < this.#worst) return;
    if (answer > this.#worst) this.#worstStates.clear();
    this.#worst = answer;
    this.#worstStates.add(this.#state);
  }

  /** Where the search was when run() gave up. */
  place(): string {
    return describeOperation(this.#steps[this.#operationAt[this.#next[0]!]!]!.operation);
  }

  /** The violation, after run() was false. */
  explain(key: string): Violation {
    const step = this.#steps[this.#operationAt[this.#worst]!]!;
    const states = [...this.#worstStates].map((state) => this.#register.valueOf(state) ?? 'nothing');
    const kind = kindOf(step, states, this.#steps);
    const near = this.#steps
      .filter(({ from }) => from <= step.until)
      .sort((a, b) => a.until - b.until)
      .slice(-12)
      .map(({ operation }) => `  ${describeOperation(operation)}`);
    const held = states.map((state) => (state === UNSEEN ? 'a value that was never read' : JSON.stringify(state)));
    const message = [
      `no order of what was done to ${JSON.stringify(key)} explains`,
      `  ${describeOperation(step.operation)}`,
      `at best it holds ${held.slice(0, 5).join(' or ')} then, after`,
      ...near,
    ];
    return { kind, key, message: message.join('\n') };
  }
}

/** Where to go on with a move that needs no alternative. */
const FORCED = -1;
const SEEN_AS = ['as-is', 'absent'] as const;

function normalAnswer(answer: Answer | undefined): Answer | undefined {
  if (!isHit(answer)) return answer;
  const value = normalValue(answer.value);
  return value === answer.value ? answer : { ...answer, value };
}

/** What the operations of one key have told of values. */
class SeenValues {
  readonly #readAt = new Map<string, number>();
  readonly #writers = new Map<string, number>();
  readonly #versions = new Map<bigint, string>();
  readonly #derives: boolean;
  readonly #counts: boolean;
  readonly #known = new Map<string, boolean>();

  constructor(operations: readonly Operation[]) {
    this.#derives = operations.some(({ verb }) => DERIVING.has(verb));
    this.#counts = operations.some(({ verb }) => verb === 'incr' || verb === 'decr');
    for (const { verb, value, answer, answeredAt } of operations) {
      if (value !== undefined) this.#writers.set(value, (this.#writers.get(value) ?? 0) + 1);
      if (!isHit(answer)) continue;
      const told = normalValue(answer.value);
      if (verb === 'get' || verb === 'gat' || verb === 'take') {
        if (answer.version !== undefined) this.#versions.set(answer.version, told);
      }
      if ((this.#readAt.get(told) ?? Number.POSITIVE_INFINITY) > answeredAt!) this.#readAt.set(told, answeredAt!);
    }
  }

  /** Whether an answer told the value, or a value that may have been made from it. */
  has(value: string): boolean {
    if (this.#readAt.has(value)) return true;
    if (!this.#derives) return false;
    let known = this.#known.get(value);
    if (known === undefined) {
      known = this.#counts && /^\d*$/.test(value);
      for (const told of this.#readAt.keys()) known ||= told.includes(value);
      this.#known.set(value, known);
    }
    return known;
  }

  /** When an answer first told a value that only one operation can have stored; undefined if that is not so. */
  firstReadOf(value: string): number | undefined {
    return this.#derives || this.#writers.get(value) !== 1 ? undefined : this.#readAt.get(value);
  }

  valueOfVersion(version: bigint): string | undefined {
    return this.#versions.get(version);
  }
}

/** What went wrong, as well as one can tell. */
function kindOf(step: Step, states: readonly string[], steps: readonly Step[]): ViolationKind {
  const { operation, answer } = step;
  const isDone = (other: Step): boolean => other !== step && other.answer !== undefined && other.until <= step.from;
  if (!isHit(answer)) {
    const says = answer === 'miss' || answer === 'not-found' || answer === 'not-stored' || step.verb === 'add';
    if (!says || states.every((state) => state === 'nothing')) return 'impossible';
    const writes = steps.filter((other) => isDone(other) && states.includes(other.value));
    const wasAcknowledged = writes.length === 0 || writes.some((other) => other.operation.answer !== undefined);
    return wasAcknowledged ? 'lost' : 'taken-back';
  }
  const writers = steps.filter((other) => other.operation.value === answer.value && other.from <= step.until);
  if (writers.length === 0 && !steps.some(({ verb }) => DERIVING.has(verb))) return 'invented';
  if (states.includes('nothing') || states.includes(answer.value)) return 'resurrected';
  const newer = steps.filter((other) => isDone(other) && states.includes(other.value) && STORING.has(other.verb));
  if (newer.length === 0) return 'impossible';
  if (newer.every((other) => other.operation.answer === undefined)) return 'taken-back';
  return newer.every((other) => other.operation.life < operation.life) ? 'lost' : 'stale';
}

// ---- versions ----

function checkSwaps(key: string, operations: readonly Operation[]): Violation[] {
  const violations: Violation[] = [];
  const swaps = new Map<bigint, Operation>();
  for (const operation of operations) {
    const { verb, token, answer } = operation;
    if (verb !== 'cas' || answer !== 'stored' || token === undefined) continue;
    const other = swaps.get(token);
    if (other !== undefined) {
      const message = `two swaps with one token\n  ${describeOperation(other)}\n  ${describeOperation(operation)}`;
      violations.push({ kind: 'version-repeated', key, message });
    }
    swaps.set(token, operation);
  }
  return violations;
}

function checkVersions(key: string, operations: readonly Operation[], history: History): Violation[] {
  const violations: Violation[] = [];
  const told: { operation: Operation; version: bigint; value: string; until: number }[] = [];
  for (const operation of operations) {
    const { answer } = operation;
    if (!isHit(answer) || answer.version === undefined) continue;
    const until = untilOf(operation, history);
    told.push({ operation, version: answer.version, value: normalValue(answer.value), until });
  }
  const values = new Map<bigint, (typeof told)[number]>();
  for (const one of told) {
    const other = values.get(one.version);
    if (other === undefined) values.set(one.version, one);
    else if (other.value !== one.value) {
      const message = `one version of two values\n  ${describeOperation(other.operation)}\n  ${describeOperation(one.operation)}`;
      violations.push({ kind: 'version-repeated', key, message });
      break;
    }
  }
  // The highest version that was told before each question.
  const byAnswer = [...told].sort((a, b) => a.until - b.until);
  let next = 0;
  let highest: (typeof told)[number] | undefined;
  for (const one of told) {
    while (next < byAnswer.length && byAnswer[next]!.until < one.operation.askedAt) {
      const other = byAnswer[next++]!;
      if (highest === undefined || other.version > highest.version) highest = other;
    }
    if (highest !== undefined && one.version < highest.version) {
      const message = `a version went back\n  ${describeOperation(highest.operation)}\n  ${describeOperation(one.operation)}`;
      violations.push({ kind: 'version-back', key, message });
      break;
    }
  }
  return violations;
}
