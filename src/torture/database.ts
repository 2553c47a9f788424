/** The databases that write-back is tried on, as a campaign sees them. */
import type { Past } from './failovers.ts';

export interface TortureRow {
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

/** The effects that changes have had on rows. */
export interface Effects {
  readonly count: number;
  /** Those that have come more than once, each named by its kind, key and version. */
  readonly repeated: readonly string[];
}

export interface TortureDatabase {
  /** Without credentials. */
  readonly name: string;
  /**
   * What the server's environment has for it, `CAIRN_STORE` included: arguments of a process are seen by all users of
   * the machine.
   */
  readonly environment: Readonly<Record<string, string>>;
  /** `idempotent`: a change may have its effect again after a failure. */
  readonly level: 'transactional' | 'idempotent';
  readonly faults: readonly DatabaseFault[];
  /** An earlier state that it can go back to. Undefined: it cannot. */
  readonly past: Past | undefined;
  /** Called when the cache has been opened: from now on effects are noted. */
  watch(): Promise<void>;
  rows(): Promise<ReadonlyMap<string, TortureRow>>;
  effects(): Promise<Effects>;
  /** Removes all that was made for it, unless that is kept. Called once, also after a failure. */
  end(keeps: boolean): Promise<void>;
}

/** Makes a database for each campaign, which is empty. */
export type MakeDatabase = () => Promise<TortureDatabase>;

/** What a list of all effects says. */
export function effectsOf(all: Iterable<string>): Effects {
  const seen = new Set<string>();
  const repeated: string[] = [];
  let count = 0;
  for (const effect of all) {
    count++;
    if (seen.has(effect)) repeated.push(effect);
    seen.add(effect);
  }
  return { count, repeated };
}
