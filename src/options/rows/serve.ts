/** The options of `serve`. */
import {
  CONNECTIONS_MAX,
  ITEM_BYTES_DEFAULT,
  ITEM_BYTES_MAX,
  ITEM_BYTES_MIN,
  OUTPUT_BYTES_MIN,
  PORT_DEFAULT,
  THREADS_MAX,
} from '../../limits.ts';
import { addresses } from '../address.ts';
import * as kinds from '../kinds.ts';
import type { AckLevel, ServeFront, ServeOptions, ServeProtocol } from '../types.ts';
import { digits } from './flags.ts';
import type { Rows } from './row.ts';
import { tlsOptions } from './tls.ts';

/** `serve`. */
export const SERVE_OPTIONS = {
  port: {
    check: (given, name, usableMemory) =>
      given === undefined ? undefined : kinds.integer({ without: 0, min: 0, max: 65_535 })(given, name, usableMemory),
    default: String(PORT_DEFAULT),
    doc: '0: any free port, see `server.addresses`',
    flag: {
      names: '-p, --port <num>',
      default: '11211',
      doc: 'TCP port; -1: any free one, 0: none',
      read: (text) => (text === '-1' ? -1 : digits(text)),
      expected: 'a port, -1 for any that is free, or 0 for none',
    },
  },
  host: {
    check: addresses,
    default: 'loopback',
    doc: "addresses, each with its own port and level if given: `['127.0.0.1', 'memory:[::1]:11212']`; more [prefixes](cli.md#addresses)",
    flag: {
      names: '-l, --listen <addr>',
      default: 'loopback',
      doc: 'addresses, separated by commas or given by several `-l`, each with a port and a level if it needs them: `10.0.0.5,[::1]:11212,memory:127.0.0.1:11213`; more [prefixes](#addresses)',
      read: (text) => text.split(/[,;]/).map((host) => host.trim()),
    },
  },
  udpPort: {
    check: kinds.integer({ without: 0, min: -1, max: 65_535 }),
    default: '0',
    doc: 'UDP at the addresses of TCP; -1: any free port, 0: [none](protocol.md#udp)',
    flag: {
      names: '-U, --udp-port <num>',
      default: '0',
      doc: '[UDP](protocol.md#udp) port, at the addresses of TCP; -1: any free one, 0: none',
      read: (text) => (text === '-1' ? -1 : digits(text)),
      expected: 'a port, -1 for any that is free, or 0 for none',
    },
  },
  path: {
    check: kinds.socketPath,
    default: 'none',
    doc: 'a unix socket, of at most 107 bytes (macOS: 103); turns TCP off unless `port` or `host` is given',
    flag: {
      names: '-s, --unix-socket <file>',
      default: 'none',
      doc: 'a unix socket; no TCP then, unless `-p` or `-l` is given',
    },
  },
  pathMode: {
    check: kinds.integer({ without: 0o700, min: 0, max: 0o777 }),
    default: '0o700',
    doc: 'the permissions of the unix socket',
    flag: {
      names: '-a, --unix-mask <mask>',
      default: '700',
      doc: 'the permissions of the unix socket, in octal',
      read: (text) => (/^0?[0-7]{1,3}$/.test(text) ? Number.parseInt(text, 8) : undefined),
      expected: 'an octal number up to 777',
    },
  },
  tls: {
    check: tlsOptions,
    default: 'none',
    doc: 'TLS at the TCP addresses, with [these options](#tls)',
  },
  authFile: {
    check: kinds.file,
    default: 'none',
    doc: 'clients have to [log in](#passwords) to the text protocol, with a name and a password of this file; the binary protocol is not served',
    flag: {
      names: '-Y, --auth-file <file>',
      default: 'none',
      doc: 'clients have to log in to the text protocol, with a name and a [password](#passwords) of this file; the binary protocol is not served',
    },
  },
  saslFile: {
    check: kinds.file,
    default: 'none',
    doc: 'clients have to log in to the binary protocol by [SASL](#passwords), with a name and a password of this file; the text protocol is not served',
    flag: {
      names: '--sasl-file <file>',
      default: '`MEMCACHED_SASL_PWDB` with `-S`',
      doc: 'turns on `-S`, with the names and [passwords](#passwords) of this file',
    },
  },
  ack: {
    check: kinds.choice<AckLevel | ''>(['memory', 'logged', 'stored'], ''),
    default: 'that of the cache',
    doc: "what replies wait for: `'memory'`, `'logged'` or `'stored'`",
  },
  maxConnections: {
    check: kinds.integer({ without: 1024, min: 1, max: CONNECTIONS_MAX }),
    default: '1024',
    doc: 'a further connection gets an error and is closed',
    flag: {
      names: '-c, --conn-limit <num>',
      default: '1024',
      doc: 'connections at a time',
      read: digits,
      expected: 'a whole number',
    },
  },
  maxOutput: {
    check: kinds.size({ without: 0, min: OUTPUT_BYTES_MIN }),
    default: '1/4 of `maxMemory`, at least 16 MiB and 4 x `maxItemSize`',
    doc: 'memory for replies that clients have not taken yet; beyond it, those are disconnected that have taken nothing for the longest time',
    flag: {
      names: '--output-limit <size>',
      default: 'from `-m`',
      doc: 'memory for replies that clients have not taken yet; beyond it, the slowest clients are disconnected',
    },
  },
  maxItemSize: {
    check: kinds.size({ without: ITEM_BYTES_DEFAULT, min: ITEM_BYTES_MIN, max: ITEM_BYTES_MAX }),
    default: "'1mb'",
    doc: 'key, value and about 60 bytes; above 1 MiB, raise `maxValueBytes` of the cache too',
    flag: {
      names: '-I, --max-item-size <num>',
      default: '1m',
      doc: 'key, value and header together, 1k to 1024m',
      read: (text) => digits(text) ?? (/^\d+(\.\d+)?\s*([kmgt]i?b?|b)$/i.test(text) ? text : undefined),
      expected: 'bytes, such as 1048576, or a size such as 2m',
    },
  },
  idleTimeout: {
    check: kinds.timer(0),
    default: '0',
    doc: 'closes a connection that sends nothing for this time; 0: never',
    flag: {
      names: '-o, --extended <list>',
      default: '',
      doc: '`idle_timeout=SECONDS`: closes connections without a command for this time; `track_sizes`: `stats sizes` counts the entries; `ssl_...`: see [TLS](#tls); memcached’s other names are known, and have no effect or are refused',
    },
  },
  stallTimeout: {
    check: kinds.timer(30_000, 1),
    default: "'30s'",
    doc: 'closes a connection that does not read its replies, or stops in the middle of a large value or line',
  },
  backlog: {
    check: kinds.integer({ without: 1024, min: 1, max: 65_535 }),
    default: '1024',
    doc: 'connections that the system queues',
    flag: {
      names: '-b, --listen-backlog <num>',
      default: '1024',
      doc: 'connections that the system queues',
      read: digits,
      expected: 'a whole number',
    },
  },
  protocol: {
    check: kinds.choice<ServeProtocol>(['auto', 'ascii', 'binary'], 'auto'),
    default: "`'auto'`",
    doc: "`'ascii'`: the text protocol only; `'binary'`: the binary protocol only; `'auto'`: the first byte of a client tells",
    flag: {
      names: '-B, --protocol <name>',
      default: 'auto',
      doc: '`ascii`: the text protocol only; `binary`: the binary protocol only; `auto`: the first byte of a client tells',
    },
  },
  testCommands: {
    check: kinds.yesOrNo(false),
    default: 'false',
    doc: 'answers the [test commands](protocol.md#test-commands)',
    flag: { names: '--test-commands', default: '', doc: 'answers `debugtime` and its like; for tests only' },
  },
  disableFlushAll: {
    check: kinds.yesOrNo(false),
    default: 'false',
    doc: 'refuses `flush_all`, so that no client can clear the cache',
    flag: { names: '-F, --disable-flush-all', default: '', doc: 'refuses `flush_all`' },
  },
  disableDumping: {
    check: kinds.yesOrNo(false),
    default: 'false',
    doc: 'refuses `scan`, `lru_crawler metadump`, `lru_crawler mgdump` and `stats cachedump`, so that no client can list the keys of others',
    flag: {
      names: '-X, --disable-dumping',
      default: '',
      doc: 'refuses `scan`, `lru_crawler metadump`, `lru_crawler mgdump` and `stats cachedump`, which list keys',
    },
  },
  disableWatch: {
    check: kinds.yesOrNo(false),
    default: 'false',
    doc: 'refuses [`watch`](protocol.md#watch), which shows what clients ask for, and their keys',
    flag: { names: '-W, --disable-watch', default: '', doc: 'refuses `watch`, which shows the keys of others' },
  },
  hideKeys: {
    check: kinds.yesOrNo(false),
    default: 'false',
    doc: '`watch`, `scan`, `stats topkeys`, `slow`, `large` and `detail`, `lru_crawler metadump`, `mgdump` and `stats cachedump` show a [keyed hash](protocol.md#hidden-keys) in the place of each key',
    flag: {
      names: '--hide-keys',
      default: '',
      doc: '`watch`, `scan`, `stats topkeys`, `slow`, `large` and `detail`, `lru_crawler metadump`, `mgdump` and `stats cachedump` show a keyed hash in the place of each key',
    },
  },
  slowRequest: {
    check: kinds.timer(10),
    default: "'10ms'",
    doc: '[`stats slow`](protocol.md#slow-and-large-requests) lists requests that take this long or longer; 0: none',
    flag: {
      names: '--slow-request <time>',
      default: '10ms',
      doc: '[`stats slow`](protocol.md#slow-and-large-requests) lists requests that take this long or longer; 0: none',
    },
  },
  largeRequest: {
    check: kinds.sizeOrNone,
    default: '0',
    doc: '[`stats large`](protocol.md#slow-and-large-requests) lists requests with a value of this size or more; 0: none',
    flag: {
      names: '--large-request <size>',
      default: '0',
      doc: '[`stats large`](protocol.md#slow-and-large-requests) lists requests with a value of this size or more; 0: none',
    },
  },
  trackSizes: {
    check: kinds.yesOrNo(false),
    default: 'false',
    doc: 'has `stats sizes` count the entries by their sizes, when it is asked for',
  },
  prefixDelimiter: {
    check: kinds.character,
    default: 'none',
    doc: 'counts requests by the part of their keys before this character, for [`stats detail`](protocol.md#requests-by-prefix)',
    flag: {
      names: '-D, --prefix-delimiter <char>',
      default: ':',
      doc: 'counts requests by the part of their keys before this character, for `stats detail`, from the start',
    },
  },
  enableShutdown: {
    check: kinds.yesOrNo(false),
    default: 'false',
    doc: 'has the command `shutdown` of any client close the server; the cache stays open',
    flag: {
      names: '-A, --enable-shutdown',
      default: '',
      doc: 'has the command `shutdown` of any client end the server, as SIGTERM does',
    },
  },
  verbosity: {
    check: kinds.integer({ without: 0, min: 0, max: 2 ** 32 - 1 }),
    default: '0',
    doc: 'what `stats settings` reports; no other effect',
    flag: {
      names: '-v, --verbose',
      default: '',
      doc: 'prints refused and dropped connections and what the log does; `-vv` also those that come and go',
    },
  },
  threads: {
    check: kinds.integer({ without: 0, min: 1, max: THREADS_MAX }),
    default: 'a thread for each processor',
    doc: 'threads that serve connections; one more accepts them',
    flag: {
      names: '-t, --threads <num>',
      default: 'one for each processor',
      doc: 'threads that serve connections; with `--front node` one does',
      read: digits,
      expected: 'a whole number',
    },
  },
  front: {
    check: kinds.choice<ServeFront | ''>(['native', 'node'], ''),
    default: "`'native'` on Linux without TLS, else `'node'`",
    doc: "what serves connections: threads of the addon (`'native'`, on Linux, without TLS), or the calling thread by node:net (`'node'`)",
    flag: {
      names: '--front <kind>',
      default: 'native, where the system has it',
      doc: '`native`: threads without JavaScript, on Linux, without TLS; `node`: the main thread, by node:net',
    },
  },
} as const satisfies Rows<ServeOptions>;
