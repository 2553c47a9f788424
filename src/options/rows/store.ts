/** The options of the database behind a cache. */
import * as kinds from '../kinds.ts';
import { stores } from '../stores.ts';
import type { CacheOptions, LoadsOptions, StoreMode, WriteBackOptions } from '../types.ts';
import { LOADS_OPTIONS } from './loads.ts';
import { checkAll, type Rows } from './row.ts';
import { rules } from './rules.ts';
import { warmUp } from './warm-up.ts';
import { WRITE_BACK_OPTIONS } from './write-back.ts';

const modes = kinds.choice<StoreMode>(['read-through', 'write-back', 'write-through'], 'write-back');

/** Of a cache with a database. */
export const STORE_OPTIONS = {
  store: {
    check: kinds.store,
    default: 'none',
    doc: 'the database behind: an address (`postgres://...`), the path of a module, or a `Backend`. The options below need `store`; see [write-back.md](write-back.md)',
    flag: {
      names: '--store <database>',
      default: 'none',
      doc: 'the database behind: `postgres://user@host/name` (password: `PGPASSWORD`), or a module. The options below are for it',
    },
  },
  stores: {
    check: stores,
    default: 'none',
    doc: "`{ sessions: 'lmdb:./sessions' }`: further databases, for the keys of the rules that name them, see [write-back.md](write-back.md#several-stores)",
    ofStore: true,
  },
  mode: {
    check: (given, name): StoreMode | undefined => (given === undefined ? undefined : modes(given, name, () => 0)),
    default: "'write-back'",
    doc: "`'write-back'`: each change is written to the database in the background; `'write-through'`: at once, and answers wait for it (`ack: 'stored'`); `'read-through'`: misses are loaded from it, and nothing is written, which is the default where `rules` name a table of yours",
    ofStore: true,
    flag: {
      names: '--mode <mode>',
      default: 'write-back',
      doc: '`write-back`: each change is written to the database in the background; `write-through`: at once, and replies wait for it; `read-through`: misses are loaded from it, and nothing is written',
    },
  },
  writeBack: {
    check: (given, name, usableMemory) => checkAll(WRITE_BACK_OPTIONS, name, given as WriteBackOptions, usableMemory),
    default: '',
    doc: "`{ maxRows: 1000, maxBytes: '4mb', delay: '50ms', maxRowsPerSecond: 0, ackTimeout: '10s', retainBehind: '10m', lanes: 1, slowdown: '100ms', sweepRows: 1000 }`: how changes share transactions",
    ofStore: true,
  },
  loads: {
    check: (given, name, usableMemory) => checkAll(LOADS_OPTIONS, name, given as LoadsOptions, usableMemory),
    default: '',
    doc: "`{ timeout: '5s', negativeTtl: '1s', onFailure: 'error' }`: how values are loaded from the database",
    ofStore: true,
  },
  warmUp: {
    check: warmUp,
    default: '`false`',
    doc: '`true`, or `{ prefix, limit, rowsPerSecond }`: rows are put into memory once the cache is open, see [write-back.md](write-back.md#warm-up)',
    ofStore: true,
    flag: {
      names: '--warm-up',
      default: '',
      doc: 'puts the rows of the database into memory, as many as there is room for, while the server serves',
    },
  },
  rules: {
    check: rules,
    default: 'none',
    doc: "`[{ prefix: 'session:', skip: true }]`: what the database gets of which keys, see [write-back.md](write-back.md#rules)",
    ofStore: true,
  },
} as const satisfies Partial<Rows<CacheOptions>>;
