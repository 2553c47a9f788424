/** The databases that write-back is tried on, as a campaign sees them. */
import type { Past } from './failovers.ts';

export interface FireRow {
  readonly value: string;
  readonly clientFlags: number;
  /** Unix milliseconds; 0: never. */
  readonly expiresWallMs: number;
}

/** What can be done to a database while it is written. */
export interface DatabaseFault {
  readonly name: string;
  /** Begins it, and resolves when it is over. */
  run(): Promise<void>;
}

export interface FireDatabase {
  readonly name: string;
  /** What `--store` is. */
  readonly store: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly faults: readonly DatabaseFault[];
  /** An earlier state that it can go back to. */
  readonly past: Past;
  /** Called when the cache has been opened: from now on effects are noted. */
  watch(): Promise<void>;
  rows(): Promise<ReadonlyMap<string, FireRow>>;
  /** Every effect that a change has had on a row, named by what happens only once. */
  effects(): Promise<readonly string[]>;
  end(): Promise<void>;
}
