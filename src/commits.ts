/**
 * Answers that wait for the log: a promised verb at the level `logged` answers when a crash can no longer take back its
 * change, or the value that it read.
 *
 * A lane answers at once, with the version that the answer reveals, if that is not in the log yet. The call is then
 * held here, by shard, until the shard's mark has passed that version. Versions of a shard are committed in their
 * order, so only the first call of each shard is tested.
 */
import { CairnError, namingOptions } from './errors.ts';
import { holdAwake, type Looker, lookers } from './native/wake.ts';
import {
  type FeedHandle,
  FeedState,
  feedOf,
  LOG_METRICS_MAX,
  LogMetricPlace,
  type NativeHandle,
  targetsOf,
} from './native.ts';
import { Fifo } from './queue/index.ts';

/** A call that waits. Neither of its methods may throw. */
export interface Waiter {
  /** One of the versions that it waits for is committed. */
  committed(): void;
  /** The version will not be committed, as far as is known. */
  uncommitted(why: CairnError): void;
}

interface Held {
  readonly version: bigint;
  /** The request changed nothing, so it may be refused instead. */
  readonly isRead: boolean;
  readonly waiter: Waiter;
}

/** The error of a change that found no room on the way to the log. `what` cannot be done; nothing was changed. */
export function logRefusal(handle: NativeHandle, what: string): CairnError {
  const feed = feedOf(handle);
  switch (feed?.feedState()) {
    case FeedState.failed:
      return new CairnError('ERR_LOG_IO', `${what}: the log cannot be written`);
    case FeedState.full:
    case FeedState.stuck: {
      const taken = takenOf(feed!);
      return namingOptions(
        (text) => new CairnError('ERR_LOG_FULL', text),
        (say) => `${what}: the log has no room on the disk, or has reached ${say('logLimit')}${taken}`,
      );
    }
    default:
      return new CairnError('ERR_LOG_FULL', `${what}: the log does not keep up; try again after sync()`);
  }
}

// As last reported by the scribe, a moment ago.
function takenOf(feed: FeedHandle): string {
  const numbers = new Float64Array(LOG_METRICS_MAX);
  feed.logMetrics(numbers);
  const limitBytes = numbers[LogMetricPlace.logLimitBytes]!;
  return limitBytes === 0 ? '' : `: it takes ${numbers[LogMetricPlace.logBytes]!} of ${limitBytes} bytes`;
}

export class Commits implements Looker {
  readonly #handle: FeedHandle;
  readonly #held: Fifo<Held>[];
  #count = 0;
  #isRinging = false;

  constructor(handle: FeedHandle) {
    this.#handle = handle;
    this.#held = Array.from({ length: handle.shardCount }, () => new Fifo<Held>());
  }

  /**
   * Holds a waiter until a version of a shard is committed. While the log is full, a read is refused: its value may
   * never get into the log, and reads must not wait for that.
   */
  hold(shard: number, version: bigint, waiter: Waiter, isRead: boolean): void {
    this.#held[shard]!.push({ version, isRead, waiter });
    this.#count++;
    if (this.#count === 1) {
      lookers.add(this);
      holdAwake(true);
      this.#handle.watchCommits();
    }
    if (this.#isRinging) return;
    this.#isRinging = true;
    // Once for all answers of a batch. Also finds commits from before this watch.
    queueMicrotask(() => {
      this.#isRinging = false;
      this.look();
      if (this.#count > 0) this.#handle.ringBell();
    });
  }

  /** The log takes changes. */
  get isRunning(): boolean {
    return this.#handle.feedState() === FeedState.running;
  }

  /**
   * Resolves when all earlier changes are committed. Otherwise rejects with the error that `inWords` makes of the
   * reason.
   */
  all(inWords: (why: CairnError) => CairnError): Promise<void> {
    return new Promise((resolve, reject) => {
      const targets = targetsOf(this.#handle);
      let missing = targets.length;
      const waiter: Waiter = {
        committed: () => {
          missing--;
          if (missing === 0) resolve();
        },
        uncommitted: (why) => reject(inWords(why)),
      };
      for (const [shard, version] of targets.entries()) this.hold(shard, version, waiter, false);
    });
  }

  /**
   * Releases waiters whose versions are committed. Rejects all if the log has failed or is full for long, and reads if
   * it is full.
   */
  look(): void {
    if (this.#count === 0) return;
    // Before the marks are read: later commits wake again.
    this.#handle.watchCommits();
    const state = this.#handle.feedState();
    const before = this.#count;
    for (const [shard, held] of this.#held.entries()) {
      let next = held.peek();
      if (next === undefined) continue;
      const mark = this.#handle.commitMark(shard);
      for (; next !== undefined && next.version <= mark; next = held.peek()) {
        held.shift();
        this.#count--;
        next.waiter.committed();
      }
    }
    if (state === FeedState.failed) this.#giveUp(unwritten(), () => true);
    else if (state === FeedState.stuck) this.#giveUp(stuckLog(), () => true);
    else if (state === FeedState.closed) this.#giveUp(closedBefore(), () => true);
    else if (state === FeedState.full) this.#giveUp(fullLog(), ({ isRead }) => isRead);
    if (this.#count === 0 && before > 0) {
      lookers.delete(this);
      holdAwake(false);
    }
  }

  #giveUp(why: CairnError, isHopeless: (held: Held) => boolean): void {
    for (const held of this.#held) {
      for (let left = held.length; left > 0; left--) {
        const next = held.shift()!;
        if (!isHopeless(next)) {
          held.push(next);
          continue;
        }
        this.#count--;
        next.waiter.uncommitted(why);
      }
    }
  }
}

function unwritten(): CairnError {
  return new CairnError(
    'ERR_LOG_IO',
    'the log cannot be written, and what was done may or may not survive the process',
  );
}

function closedBefore(): CairnError {
  return new CairnError(
    'ERR_WORKER_EXITED',
    'the cache was closed before the log had it, and it may or may not be there again',
  );
}

function stuckLog(): CairnError {
  return new CairnError(
    'ERR_TIMEOUT',
    'the log has been full for long, and what was done survives the process only if the log gets room before',
  );
}

function fullLog(): CairnError {
  return new CairnError('ERR_LOG_FULL', 'what it tells of is not in the log, which is full');
}
