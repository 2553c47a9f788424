/**
 * memcached's options beside those that are ours too, so that its command line starts `cairn serve`. One that tunes a
 * part of memcached that is not here is taken, and named in one line. One that would change what clients see, and is
 * not here, is refused by name, as is one that memcached does not know.
 *
 * The names are those of memcached 1.6.45.
 */
import { InvalidArgumentError, Option } from 'commander';
import type { TlsOptions } from '../index.ts';
import { suggestion } from '../options.ts';

// ---- flags ----

interface Flag {
  /** As commander takes them. */
  readonly names: string;
  readonly doc: string;
}

const TAKEN: readonly Flag[] = [
  { names: '-r, --enable-coredumps', doc: 'the limit of core files is the shell’s (ulimit -c)' },
  { names: '-k, --lock-memory', doc: 'pages are not locked' },
  { names: '-L, --enable-largepages', doc: 'the system decides' },
  { names: '-f, --slab-growth-factor <num>', doc: 'there are no slabs' },
  { names: '-n, --slab-min-size <bytes>', doc: 'there are no slabs' },
  { names: '-R, --max-reqs-per-event <num>', doc: 'turns are bounded as they are' },
  { names: '-N, --napi_ids <num>', doc: 'clients are spread over the threads in turn' },
];

const REFUSED: readonly Flag[] = [
  { names: '-M, --disable-evictions', doc: 'errors in place of evictions' },
  { names: '-C, --disable-cas', doc: 'entries without a cas number' },
  { names: '-e, --memory-file <file>', doc: 'a warm restart (--data DIR is kept)' },
];

/** Flags that are only taken or refused, which `-h` lists behind the others. */
export function memcachedFlags(): Option[] {
  const group = 'Options of memcached without effect, or not here:';
  return [
    ...TAKEN.map(({ names, doc }) => new Option(names, `no effect: ${doc}`).helpGroup(group)),
    ...REFUSED.map(({ names, doc }) => new Option(names, `refused: ${doc}`).helpGroup(group)),
  ];
}

type Values = Readonly<Record<string, unknown>>;

const valueOf = (values: Values, { names }: Flag): unknown => values[new Option(names).attributeName()];
const shortest = ({ names }: Flag): string => /^[^ ,]+/.exec(names)![0];

/** What is wrong with a flag that was given; undefined: nothing. */
export function refusedFlag(values: Values): string | undefined {
  const flag = REFUSED.find((each) => valueOf(values, each) !== undefined);
  return flag && `${shortest(flag)} asks for what is not here: ${flag.doc}`;
}

/** The names of what was given and has no effect. */
export function withoutEffect(values: Values): string[] {
  const flags = TAKEN.filter((flag) => valueOf(values, flag) !== undefined);
  const { extended } = values as { extended?: Extended };
  return [...flags.map(shortest), ...(extended?.taken ?? []).map((name) => `-o ${name}`)];
}

// ---- -o ----

/** What `-o` has asked for. */
export interface Extended {
  /** Milliseconds. */
  readonly idleTimeout?: number;
  /** Options of TLS, by their names. */
  readonly tls?: Partial<TlsOptions>;
  readonly trackSizes?: boolean;
  /** The names of those without effect. */
  readonly taken: readonly string[];
}

/** Without effect, as are those with `no_` before them. */
const TAKEN_NAMES: readonly string[] = [
  'maxconns_fast',
  'hashpower',
  'hash_algorithm',
  'hashexpand',
  'tail_repair_time',
  'lru_crawler',
  'lru_crawler_sleep',
  'lru_crawler_tocrawl',
  'lru_maintainer',
  'hot_lru_pct',
  'warm_lru_pct',
  'hot_max_factor',
  'warm_max_factor',
  'temporary_ttl',
  'slab_reassign',
  'slab_automove',
  'slab_automove_ratio',
  'slab_automove_window',
  'slab_automove_freeratio',
  'slab_chunk_max',
  'slab_sizes',
  'read_buf_mem_limit',
  'resp_obj_mem_limit',
  'inline_ascii_resp',
  'watcher_logbuf_size',
  'worker_logbuf_size',
  'modern',
  'drop_privileges',
  'sock_cookie_id',
  // Of TLS: its buffers are those of node:tls, in which the system has no part.
  'ssl_wbuf_size',
  'ssl_kernel_tls',
];

/** Those that begin so would change what clients see. */
const REFUSED_NAMES = /^(no_)?(proxy_|ext_)/;

/** What each name about TLS is as an option, and its values; a text, if there are none. */
const TLS_NAMES: Readonly<Record<string, { option: keyof TlsOptions; values?: Readonly<Record<string, unknown>> }>> = {
  ssl_chain_cert: { option: 'cert' },
  ssl_key: { option: 'key' },
  ssl_keyformat: { option: 'keyFormat', values: { 1: 'pem', 2: 'der' } },
  ssl_verify_mode: { option: 'verify', values: { 0: 'none', 1: 'request', 2: 'require', 3: 'require' } },
  ssl_ciphers: { option: 'ciphers' },
  ssl_ca_cert: { option: 'ca' },
  ssl_session_cache: { option: 'sessionCache', values: { '': true } },
  no_ssl_session_cache: { option: 'sessionCache', values: { '': false } },
  ssl_min_version: { option: 'minVersion', values: { 0: 'TLSv1', 1: 'TLSv1.1', 2: 'TLSv1.2', 3: 'TLSv1.3' } },
};

/** The name behind `-o` of an option of TLS. */
export function tlsNameOf(option: string): string | undefined {
  return Object.keys(TLS_NAMES).find((name) => TLS_NAMES[name]!.option === option);
}

/** Reads one `-o`; what came in earlier ones counts on. Throws for a name that is refused or unknown. */
export function extendedOf(text: string, before: Extended = { taken: [] }): Extended {
  let { idleTimeout, tls, trackSizes } = before;
  const taken = [...before.taken];
  for (const each of text.split(',').map((word) => word.trim())) {
    const [, name = '', value] = /^([^=]*)(?:=(.*))?$/s.exec(each)!;
    if (name === 'idle_timeout') {
      if (!/^\d{1,7}$/.test(value ?? '')) throw wrong('Expected -o idle_timeout to be whole seconds', value ?? '');
      idleTimeout = Number(value) * 1000;
    } else if (Object.hasOwn(TLS_NAMES, name)) {
      tls = { ...tls, [TLS_NAMES[name]!.option]: tlsValueOf(name, value ?? '') };
    } else if (name === 'track_sizes') {
      trackSizes = true;
    } else if (TAKEN_NAMES.includes(name.replace(/^no_/, ''))) {
      taken.push(name);
    } else if (REFUSED_NAMES.test(name)) {
      throw new InvalidArgumentError(`-o ${name} asks for what is not here.`);
    } else {
      const known = ['idle_timeout', 'track_sizes', ...Object.keys(TLS_NAMES), ...TAKEN_NAMES];
      throw new InvalidArgumentError(`-o ${name} is no option of memcached${suggestion(name, known)}.`);
    }
  }
  return {
    ...(idleTimeout !== undefined && { idleTimeout }),
    ...(tls && { tls }),
    ...(trackSizes && { trackSizes }),
    taken,
  };
}

function tlsValueOf(name: string, value: string): unknown {
  const { values } = TLS_NAMES[name]!;
  if (values === undefined) {
    if (value === '') throw new InvalidArgumentError(`Expected a value behind -o ${name}=.`);
    return value;
  }
  if (Object.hasOwn(values, value)) return values[value];
  const known = Object.keys(values);
  const expected = known[0] === '' ? 'to have no value' : `to be ${known.slice(0, -1).join(', ')} or ${known.at(-1)}`;
  throw wrong(`Expected -o ${name} ${expected}`, value);
}

function wrong(sentence: string, text: string): InvalidArgumentError {
  return new InvalidArgumentError(`${sentence}, got ${JSON.stringify(text)}.`);
}
