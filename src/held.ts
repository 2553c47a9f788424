/**
 * Answers that are held until the version that they reveal has got somewhere: one queue per shard, or per shard and
 * database.
 */
import type { CairnError } from './errors.ts';
import { holdAwake, type Looker, lookers } from './native/wake.ts';
import type { FeedHandle } from './native.ts';
import { Fifo } from './queue/index.ts';

/** A call that waits. Neither of its methods may throw. */
export interface Waiter {
  /** One of the versions that it waits for is there. */
  committed(): void;
  /** The version will not be there, as far as is known. */
  uncommitted(why: CairnError): void;
}

/** What is held: a version of a shard, and the call. */
export interface Held {
  readonly version: bigint;
  readonly waiter: Waiter;
}

/**
 * Versions of a shard get there in their order, so only the first call of each queue is tested. Wakes this thread while
 * a call is held, and keeps it alive.
 */
export abstract class HeldAnswers<H extends Held> implements Looker {
  protected readonly handle: FeedHandle;
  protected readonly queues: Fifo<H>[];
  #count = 0;
  #isRinging = false;

  constructor(handle: FeedHandle) {
    this.handle = handle;
    this.queues = Array.from({ length: handle.shardCount }, () => new Fifo<H>());
  }

  /** `queue`: the number of a shard; one of another database is behind all shards of those before. */
  protected add(queue: number, held: H): void {
    while (this.queues.length <= queue) this.queues.push(new Fifo<H>());
    this.queues[queue]!.push(held);
    this.#count++;
    if (this.#count === 1) {
      lookers.add(this);
      holdAwake(true);
      this.handle.watchCommits();
    }
    if (this.#isRinging) return;
    this.#isRinging = true;
    // Once for all answers of a batch. Also finds news from before this watch.
    queueMicrotask(() => {
      this.#isRinging = false;
      this.look();
      if (this.#count > 0) this.handle.ringBell();
    });
  }

  /** Ends the waits that are over. */
  look(): void {
    if (this.#count === 0) return;
    // Before the news is read: later news wakes again.
    this.handle.watchCommits();
    const before = this.#count;
    this.release();
    if (this.#count === 0 && before > 0) this.#rest();
  }

  /** Takes the calls out whose waits are over, and tells them. */
  protected abstract release(): void;

  /** Takes the first call of a queue out. */
  protected take(queue: Fifo<H>): H {
    this.#count--;
    return queue.shift()!;
  }

  /** Tells all that are left the same, and holds none any more. */
  end(why: CairnError): void {
    if (this.#count === 0) return;
    this.giveUp(why, () => true);
    this.#rest();
  }

  #rest(): void {
    lookers.delete(this);
    holdAwake(false);
  }

  /** Rejects all for which there is no hope. */
  protected giveUp(why: CairnError, isHopeless: (held: H) => boolean): void {
    for (const queue of this.queues) {
      for (let left = queue.length; left > 0; left--) {
        const next = queue.shift()!;
        if (!isHopeless(next)) {
          queue.push(next);
          continue;
        }
        this.#count--;
        next.waiter.uncommitted(why);
      }
    }
  }
}
