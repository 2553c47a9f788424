/** What a lane and its thread say to each other. A block that the thread has seen before is only named. */

/** The first message to a new thread. It answers DONE, or CLOSED if there is no such cache any more. */
export const HELLO = -1;
/** Go on with the batch whose answer was too large for one. */
export const CONTINUE = -2;

/** A block that comes for the first time, or with values out of line. A batch without either is the slot alone. */
export interface BatchMessage {
  /** Under which the thread keeps the block; -1: it does not. */
  readonly slot: number;
  /** undefined: the one of that slot. */
  readonly memory: SharedArrayBuffer | undefined;
  readonly pieces: readonly Uint8Array[];
}

export const DONE = 0;
/** The handle or the cache is closed: what has no answer was not done. */
export const CLOSED = 1;
/** Not all: CONTINUE. */
export const MORE = 2;
/** The process has no memory for the values: what has no answer was not done. */
export const OUT_OF_MEMORY = 3;

/** An answer with values out of line. One without is the outcome alone. */
export interface BatchAnswer {
  readonly outcome: number;
  readonly pieces: readonly Uint8Array[];
}

/** workerData of a lane's thread. */
export interface LaneData {
  readonly cacheId: number;
}
