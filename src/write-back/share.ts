/**
 * The share of the keys that a lane has: those whose routing hash has the number of the lane in its top bits. The keys
 * of a shard are found in the same way, so a lane has a whole range of shards, unless there are fewer shards than
 * lanes.
 */
import { laneOf } from '../request/hash.ts';

export { laneOf } from '../request/hash.ts';

export class Share {
  readonly lane: number;
  readonly laneCount: number;

  constructor(lane: number, laneCount: number) {
    this.lane = lane;
    this.laneCount = laneCount;
  }

  /** The shares of that many lanes, which are all keys. */
  static all(laneCount: number): Share[] {
    return Array.from({ length: laneCount }, (_, lane) => new Share(lane, laneCount));
  }

  has(key: Uint8Array): boolean {
    return laneOf(key, this.laneCount) === this.lane;
  }

  /** Whether it has the keys with this in the top bits of their hash, of which there are at least as many as lanes. */
  hasSlot(slot: number, slotBits: number): boolean {
    return slot >>> (slotBits - Math.log2(this.laneCount)) === this.lane;
  }

  /** Those of `shardCount` shards that it has: from the first to before the second. REQUIRES: not fewer than lanes. */
  shards(shardCount: number): readonly [from: number, end: number] {
    const perLane = shardCount / this.laneCount;
    return [this.lane * perLane, (this.lane + 1) * perLane];
  }
}
