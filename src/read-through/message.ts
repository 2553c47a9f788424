/** What the keeper and the loader's thread say to each other. Everything can be cloned. */
import type { Rule } from '../rules/index.ts';
import type { PlainError } from '../scribe/index.ts';
import type { LoadLimits, SharedStore, WarmUpData } from '../write-back/index.ts';

/** workerData of the loader's thread. */
export interface ReaderData {
  readonly cacheId: number;
  readonly store: SharedStore;
  readonly number: number;
  readonly rules: readonly Rule[];
  readonly loads: LoadLimits;
  /** undefined: nothing is warmed up. */
  readonly warmUp: WarmUpData | undefined;
  /** supervisor.ts. */
  readonly pulse: SharedArrayBuffer;
}

/** What the loader says. */
export type ReaderReport =
  /** The database can be read, or does not answer yet. */
  | { readonly kind: 'opened' }
  /** It cannot be the database of this cache. */
  | { readonly kind: 'refused'; readonly error: PlainError }
  /** The cache was closed, and the loader has ended. */
  | { readonly kind: 'closed' };
