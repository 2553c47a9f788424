/** The options of what a cache that has been opened puts into memory. */
import * as kinds from '../kinds.ts';
import type { ResolvedWarmUpOptions, WarmUpOptions } from '../types.ts';
import { checkAll, type Rows } from './row.ts';

/** `warmUp`. */
export const WARM_UP_OPTIONS = {
  prefix: {
    check: kinds.text('the text that keys begin with'),
    default: "`''`",
    doc: 'only keys that begin with it',
  },
  limit: {
    check: kinds.integer({ without: 0, min: 0 }),
    default: 'no limit',
    doc: 'the number of rows, at most, that are put into memory',
  },
  rowsPerSecond: {
    check: kinds.integer({ without: 0, min: 0 }),
    default: 'no limit',
    doc: 'the rows that the database is asked for in a second, about',
  },
} as const satisfies Rows<WarmUpOptions>;

/** `true`: everything. */
export function warmUp(given: unknown, name: string, usableMemory: () => number): ResolvedWarmUpOptions | undefined {
  if (given === undefined || given === false) return undefined;
  return checkAll(WARM_UP_OPTIONS, name, given === true ? {} : (given as WarmUpOptions), usableMemory);
}
