/** The options of how values are loaded from the database. */
import * as kinds from '../kinds.ts';
import type { LoadFailure, LoadsOptions } from '../types.ts';
import { time } from './flags.ts';
import type { Rows } from './row.ts';

/** `loads`. */
export const LOADS_OPTIONS = {
  timeout: {
    check: kinds.timer(5000, 1),
    default: "'5s'",
    doc: 'a question to the database that takes longer has failed, and so have the requests that need it',
    flag: {
      names: '--load-timeout <time>',
      default: '5s',
      doc: 'a question to the database that takes longer has failed, and so have the requests that need it',
      read: time,
      expected: 'a time with its unit, such as "5s"',
    },
  },
  negativeTtl: {
    check: kinds.timer(1000, 1000, 3_600_000),
    default: "'1s'",
    doc: 'how long a key without a row is known to be absent; between a second and an hour',
    flag: {
      names: '--negative-ttl <time>',
      default: '1s',
      doc: 'how long a key without a row is known to be absent',
      read: time,
      expected: 'a time with its unit, such as "1s"',
    },
  },
  onFailure: {
    check: kinds.choice<LoadFailure>(['error', 'miss'], 'error'),
    default: "'error'",
    doc: "what a read is while the database does not answer: `'error'`, or `'miss'`, with which `fetch` calls its loader",
    flag: {
      names: '--load-failure <answer>',
      default: 'error',
      doc: 'the reply to a `get` while the database does not answer: `error`, or `miss`',
    },
  },
} as const satisfies Rows<LoadsOptions>;
