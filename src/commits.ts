/**
 * Answers that wait for the log: a promised verb at the level `logged` answers when a crash can no longer take back its
 * change, or the value that it read.
 *
 * A lane answers at once, with the version that the answer reveals, if that is not in the log yet. The call is then
 * held here, by shard, until the shard's mark has passed that version. Versions of a shard are committed in their
 * order, so only the first call of each shard is tested.
 */
import { CairnError, namingOptions } from './errors.ts';
import { type Held, HeldAnswers, type Waiter } from './held.ts';
import {
  type BackedHandle,
  type FeedHandle,
  FeedState,
  feedOf,
  LOG_METRICS_MAX,
  LogMetricPlace,
  type NativeHandle,
  targetsOf,
} from './native.ts';

interface HeldAnswer extends Held {
  /** The request changed nothing, so it may be refused instead. */
  readonly isRead: boolean;
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
      return isReserveFull(handle)
        ? new CairnError(
            'ERR_LOG_FULL',
            `${what}: memory has no room for more keys whose changes the database does not have; try again after drain(), or give the cache more memory`,
          )
        : new CairnError('ERR_LOG_FULL', `${what}: the log does not keep up; try again after sync()`);
  }
}

// It is divided among the shards, and the key may need more than is left.
function isReserveFull(handle: NativeHandle): boolean {
  return 'stubShare' in handle && (handle as BackedHandle).stubShare() > RESERVE_FULL;
}

/** From here on the reserve is what an entry finds no room in, and not the ring. */
const RESERVE_FULL = 0.9;

// As last reported by the scribe, a moment ago.
function takenOf(feed: FeedHandle): string {
  const numbers = new Float64Array(LOG_METRICS_MAX);
  feed.logMetrics(numbers);
  const limitBytes = numbers[LogMetricPlace.logLimitBytes]!;
  return limitBytes === 0 ? '' : `: it takes ${numbers[LogMetricPlace.logBytes]!} of ${limitBytes} bytes`;
}

export class Commits extends HeldAnswers<HeldAnswer> {
  /**
   * Holds a waiter until a version of a shard is committed. While the log is full, a read is refused: its value may
   * never get into the log, and reads must not wait for that.
   */
  hold(shard: number, version: bigint, waiter: Waiter, isRead: boolean): void {
    this.add(shard, { version, isRead, waiter });
  }

  /** The log takes changes. */
  get isRunning(): boolean {
    return this.handle.feedState() === FeedState.running;
  }

  /**
   * Resolves when all earlier changes are committed. Otherwise rejects with the error that `inWords` makes of the
   * reason.
   */
  all(inWords: (why: CairnError) => CairnError): Promise<void> {
    return new Promise((resolve, reject) => {
      const targets = targetsOf(this.handle);
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

  /** Rejects all if the log has failed or is full for long, and reads if it is full. */
  protected override release(): void {
    const state = this.handle.feedState();
    for (const [shard, queue] of this.queues.entries()) {
      let next = queue.peek();
      if (next === undefined) continue;
      const mark = this.handle.commitMark(shard);
      for (; next !== undefined && next.version <= mark; next = queue.peek()) this.take(queue).waiter.committed();
    }
    const why = whyNotLogged(state);
    if (why !== undefined) this.giveUp(why, ({ isRead }) => isRead || state !== FeedState.full);
  }
}

/** Why a log in that state commits nothing any more, as far as is known; undefined: it does. */
export function whyNotLogged(state: FeedState): CairnError | undefined {
  switch (state) {
    case FeedState.failed:
      return unwritten();
    case FeedState.stuck:
      return stuckLog();
    case FeedState.closed:
      return closedBefore();
    case FeedState.full:
      return fullLog();
    default:
      return undefined;
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
