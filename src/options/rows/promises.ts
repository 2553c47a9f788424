/** The options of `cache.promises`. */
import { LANE_COUNT_MAX, QUEUE_BYTES_MAX, QUEUE_REQUESTS_MAX } from '../../limits.ts';
import * as kinds from '../kinds.ts';
import type { PromiseOptions } from '../types.ts';
import type { Rows } from './row.ts';

/** `promises`. */
export const PROMISE_OPTIONS = {
  lanes: {
    check: (given, name) =>
      kinds.integer({ without: 0, min: 1, max: LANE_COUNT_MAX })(given, name, () => 0) || undefined,
    default: 'one for every 4 processors, from 1 to 4',
    doc: 'threads, each serving its share of the shards',
  },
  maxRequests: {
    check: kinds.integer({ without: QUEUE_REQUESTS_MAX, min: 1 }),
    default: '65,536',
    doc: 'requests that may be unanswered at a time; each key of `getMany` and the like counts',
  },
  maxBytes: {
    check: kinds.size({ without: QUEUE_BYTES_MAX }),
    default: "'64mb'",
    doc: 'bytes of keys and values that they may hold',
  },
} as const satisfies Rows<PromiseOptions>;
