/**
 * Answers that wait for the database: a promised change at the level `stored` answers when the database has it, or a
 * later change of its key. The writer is woken for the first of them, and writes at once.
 *
 * | the change is                       | the call rejects with | it means                                   |
 * |-------------------------------------|-----------------------|--------------------------------------------|
 * | a dead letter                       | `ERR_DEAD_LETTER`     | the row stays as it was                    |
 * | not confirmed within `ackTimeout`   | `ERR_TIMEOUT`         | the log has it, and it may be stored later |
 * | left by a writer that has stopped   | `ERR_WRITE_BACK`      | the same                                   |
 * | not in the log, which fails or ends | as at `logged`        | it may be lost                             |
 */
import { whyNotLogged } from './commits.ts';
import { CairnError } from './errors.ts';
import { type Held, HeldAnswers, type Waiter } from './held.ts';
import { type FeedHandle, FeedState, StoredHealth, StoredOutcome } from './native.ts';
import type { Key } from './request/arguments.ts';

interface HeldChange extends Held {
  readonly key: Key;
}

export class StoredWaits extends HeldAnswers<HeldChange> {
  /** Holds a waiter until the database has the change of a key that has this version. */
  hold(shard: number, version: bigint, key: Key, waiter: Waiter): void {
    const store = this.handle.wantStored(shard, key, version);
    this.add(store * this.handle.shardCount + shard, { version, key, waiter });
  }

  protected override release(): void {
    const logState = this.handle.feedState();
    const { shardCount } = this.handle;
    for (const [number, queue] of this.queues.entries()) {
      const shard = number % shardCount;
      for (let next = queue.peek(); next !== undefined; next = queue.peek()) {
        const outcome = this.handle.storedOutcome(shard, next.key, next.version);
        if (outcome === StoredOutcome.pending) break;
        const { waiter } = this.take(queue);
        if (outcome === StoredOutcome.stored) waiter.committed();
        else waiter.uncommitted(typeof outcome === 'string' ? refused(outcome) : unconfirmed(this.handle, next.key));
      }
    }
    // What is not in the log never gets into the database.
    if (logState !== FeedState.full) {
      const why = whyNotLogged(logState);
      if (why !== undefined) this.giveUp(why, () => true);
    }
  }
}

/** The error of a change that is refused before it is made, because the database confirms nothing. */
export function storeAway(what: string): CairnError {
  return new CairnError('ERR_STORE_AWAY', `Cannot ${what}: the database cannot be written`);
}

/** The error of a change that the database has put aside. */
export function refused(reason: string): CairnError {
  return new CairnError('ERR_DEAD_LETTER', `the database has refused the change for good: ${reason}`);
}

function unconfirmed(handle: FeedHandle, key: Key): CairnError {
  if (handle.isClosed() || handle.storedHealth(key) === StoredHealth.stopped) {
    return new CairnError('ERR_WRITE_BACK', 'the log has the change, and nothing is written to the database now');
  }
  return new CairnError('ERR_TIMEOUT', 'the log has the change, and the database has not confirmed it in time');
}
