/** The messages between a lane and its thread. A block that the thread knows is sent as its number only. */

/** The first message to a new thread. It answers DONE, or CLOSED if the cache has ended. */
export const HELLO = -1;
/** Continues the batch whose answer was too large for one message. */
export const CONTINUE = -2;

/** A block that is sent for the first time, or with values outside of it. Any other batch is sent as its slot only. */
export interface BatchMessage {
  /** The number under which the thread keeps the block; -1: it does not keep it. */
  readonly slot: number;
  /** undefined: the block of that slot. */
  readonly memory: SharedArrayBuffer | undefined;
  readonly pieces: readonly Uint8Array[];
}

export const DONE = 0;
/** The handle or the cache is closed: requests without an answer were not done. */
export const CLOSED = 1;
/** Not all answers are here: send CONTINUE. */
export const MORE = 2;
/** The process has no memory for the values: requests without an answer were not done. */
export const OUT_OF_MEMORY = 3;

/** An answer with values outside of the block. Any other answer is the outcome only. */
export interface BatchAnswer {
  readonly outcome: number;
  readonly pieces: readonly Uint8Array[];
}

/** workerData of a lane's thread. */
export interface LaneData {
  readonly cacheId: number;
}
