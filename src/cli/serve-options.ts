/**
 * The options of `cairn serve`: how they are written as flags, what all settings together become, and what is wrong
 * with them. Nothing is opened or printed here. What each takes, and its line of help, is in the table of src/options/.
 */
import { existsSync } from 'node:fs';
import { dirname, relative } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { CairnError } from '../errors.ts';
import type { CacheOptions, ServeOptions, TlsOptions } from '../index.ts';
import {
  CACHE_OPTIONS,
  type Flag,
  isLoopback,
  LOADS_OPTIONS,
  type Row,
  SERVE_OPTIONS,
  SNAPSHOT_OPTIONS,
  TLS_OPTIONS,
  WRITE_BACK_OPTIONS,
} from '../options.ts';
import { type Extended, extendedOf, memcachedFlags, refusedFlag, tlsNameOf } from './memcached-options.ts';
import { ALLOW_OPEN, checkSetting, complaintOf, SETTABLE, type Setting, type Settings } from './settings.ts';

/** What commander found, by the names that it gives the flags. */
export type ServeFlags = Readonly<Record<string, unknown>>;

/** Where `npm start` keeps its data; scripts/lib/start.mjs has the same. */
export const START_DIRECTORY = './cairn-data';
/** And the database that it writes to: a file in that directory. */
export const START_STORE = 'lmdb:';

const EXAMPLES = `
Examples:
  npx cairn-cache serve -m 512              in memory only, on 127.0.0.1:11211
  npx cairn-cache serve --data ./data       kept: no crash takes back what was answered
  npx cairn-cache serve --data ./data --sync 10ms
                                            faster; a power cut takes the last 10 ms, a crash of the process nothing
  npx cairn-cache serve --config cairn.json options from a file (docs/cli.md)
  npx cairn-cache serve --data ./data -l 127.0.0.1,memory:127.0.0.1:11212
                                            a second port, whose replies do not wait for the log`;

// ---- the flags, in the order of the help ----

interface Flagged {
  /** The option that it becomes, and whose check it has; undefined: it is the command's own. */
  readonly option?: string;
  readonly row?: Row;
  readonly flag: Flag;
}

const flags: readonly Flagged[] = [
  {
    flag: {
      names: '--config <file>',
      default: 'none',
      doc: 'options from a `.js`, `.mjs` or `.json` file; flags and `CAIRN_*` variables count before it',
    },
  },
  ...of(SERVE_OPTIONS, '', ['port', 'host', 'udpPort', 'path', 'pathMode']),
  ...of(CACHE_OPTIONS, '', ['maxMemory']),
  ...of(SERVE_OPTIONS, '', ['maxConnections', 'threads', 'front', 'maxItemSize', 'maxOutput', 'backlog']),
  ...of(SERVE_OPTIONS, '', [
    'disableFlushAll',
    'disableDumping',
    'disableWatch',
    'hideKeys',
    'slowRequest',
    'largeRequest',
    'prefixDelimiter',
    'enableShutdown',
    'idleTimeout',
    'verbosity',
    'protocol',
    'testCommands',
  ]),
  ...of(CACHE_OPTIONS, '', ['data']),
  { flag: { names: '--no-data', default: '', doc: 'memory only, even if a script gives `--data`' } },
  ...of(CACHE_OPTIONS, '', ['sync', 'ack', 'recover', 'logLimit', 'segmentSize', 'ringSize']),
  ...of(SNAPSHOT_OPTIONS, 'snapshot.', ['every', 'logBytes']),
  ...of(CACHE_OPTIONS, '', ['store', 'mode']),
  ...of(WRITE_BACK_OPTIONS, 'writeBack.', [
    'maxRows',
    'maxBytes',
    'delay',
    'maxRowsPerSecond',
    'ackTimeout',
    'retainBehind',
    'lanes',
    'slowdown',
  ]),
  ...of(LOADS_OPTIONS, 'loads.', ['timeout', 'negativeTtl', 'onFailure']),
  ...of(CACHE_OPTIONS, '', ['warmUp']),
  ...of({ allowOpen: ALLOW_OPEN }, '', ['allowOpen']),
  {
    flag: {
      names: '-d, --daemon',
      default: '',
      doc: 'runs in the background; the command ends when the server listens',
    },
  },
  {
    flag: {
      names: '-Z, --enable-ssl',
      default: '',
      doc: 'TLS at the TCP addresses, except those with `notls:` in front; `-o ssl_chain_cert=FILE` is needed, see [TLS](#tls)',
    },
  },
  ...of(SERVE_OPTIONS, '', ['authFile']),
  {
    flag: {
      names: '-S, --enable-sasl',
      default: '',
      doc: 'clients have to log in to the binary protocol by [SASL](#passwords), with a password of `--sasl-file` or `MEMCACHED_SASL_PWDB`; the text protocol is not served',
    },
  },
  ...of(SERVE_OPTIONS, '', ['saslFile']),
  { flag: { names: '-P, --pidfile <file>', default: 'none', doc: 'has the number of the process while it runs' } },
  { flag: { names: '-u, --user <user>', default: 'none', doc: 'the user that the server becomes, if root starts it' } },
  { flag: { names: '-V, --version', default: '', doc: 'prints the version' } },
  { flag: { names: '-i, --license', default: '', doc: 'prints the license' } },
];

function of(rows: Readonly<Record<string, Row>>, prefix: string, names: readonly string[]): Flagged[] {
  return names.map((name) => ({ option: prefix + name, row: rows[name]!, flag: rows[name]!.flag! }));
}

/** Every flag with its default and its line, for the test of docs/cli.md. */
export const serveFlags: readonly Flag[] = flags.map(({ flag }) => flag);

// `-m`, or `--ring`.
function shortest({ names }: Flag): string {
  return /^[^ ,]+/.exec(names)![0];
}

const flagNames: ReadonlyMap<string, string> = new Map([
  ...flags.flatMap(({ option, flag }) => (option === undefined ? [] : [[option, shortest(flag)] as const])),
  // For which the cache has to allow larger values.
  ['maxValueBytes', shortest(SERVE_OPTIONS.maxItemSize.flag)],
  ['tls', '-Z'],
  ...Object.keys(TLS_OPTIONS).flatMap((option): [string, string][] => {
    const name = tlsNameOf(option);
    return name === undefined ? [] : [[`tls.${option}`, `-o ${name}`]];
  }),
]);

/** What an option of the API is called on the command line. */
export function flagName(option: string): string {
  return flagNames.get(option) ?? option;
}

/** Adds the flags. */
export function addServeFlags(command: Command): Command {
  command.helpOption('-h, --help', 'print this help and exit');
  for (const each of flags) command.addOption(optionOf(each));
  for (const each of memcachedFlags()) command.addOption(each);
  return command;
}

/** Adds the flags, their help and its examples. */
export function addServeOptions(command: Command): Command {
  return addServeFlags(command).addHelpText('after', EXAMPLES);
}

function optionOf({ option, row, flag }: Flagged): Option {
  const shown = flag.default === '' ? '' : ` (default: ${flag.default})`;
  const made = new Option(flag.names, plain(flag.doc) + plain(shown));
  if (option === 'verbosity') return made.argParser((_, before: unknown) => (Number(before) || 0) + 1);
  if (option === 'idleTimeout') return made.argParser(extendedOf);
  if (row === undefined || !flag.names.includes('<') || option === 'store') return made;
  return made.argParser((text: string, before: unknown) => {
    const value = flag.read === undefined ? text : flag.read(text);
    // The port's -1 and 0 are the command's own.
    if (value === undefined) throw wrongFlag(`Expected ${shortest(flag)} to be ${plain(flag.expected!)}`, text);
    const complaint = value === -1 ? undefined : complaintOf(option!, row, value, flagName);
    if (complaint !== undefined) throw new InvalidArgumentError(`${complaint}.`);
    return Array.isArray(value) && Array.isArray(before) ? [...before, ...value] : value;
  });
}

function wrongFlag(sentence: string, text: string): InvalidArgumentError {
  return new InvalidArgumentError(`${sentence}, got ${JSON.stringify(text)}.`);
}

// A terminal shows no code.
function plain(text: string): string {
  return text.replaceAll('`', '');
}

// ---- flags as settings ----

/** The value of `data` that keeps nothing. */
const NO_DATA = false;
/** The value of `port` that listens on no TCP port: 0 is "no TCP" on the command line, and "any port" in the API. */
const NO_TCP = 'none';

/** `-Z`, which is no option: certificates may come from a file or a variable. */
const TLS_ASKED = 'enableSsl';

/** `-S`, which is no option: its passwords may come from a file or a variable. */
const SASL_ASKED = 'enableSasl';

/** The variable in which memcached looks for the passwords of `-S`, and what it gives then. */
const PASSWORD_VARIABLE = 'MEMCACHED_SASL_PWDB';
export function withPasswordVariable(settings: Settings, env: NodeJS.ProcessEnv): Settings {
  const value = env[PASSWORD_VARIABLE] ?? '';
  if (!settings.has(SASL_ASKED) || settings.has('saslFile') || value === '') return settings;
  return new Map([...settings, ['saslFile', { value, source: 'environment', name: PASSWORD_VARIABLE }]]);
}

/**
 * The options that the flags give. Throws `ERR_INVALID_ARGUMENT` for a wrong database, and for a flag of memcached that
 * asks for what is not here.
 */
export function settingsOfFlags(values: ServeFlags): Settings {
  const refused = refusedFlag(values);
  if (refused !== undefined) throw new CairnError('ERR_INVALID_ARGUMENT', refused);
  const settings = new Map<string, Setting>();
  for (const { option, flag } of flags) {
    if (option === undefined) continue;
    const value = values[new Option(flag.names).attributeName()];
    const inApi = value === undefined ? undefined : asInApi(option, value);
    if (inApi === undefined) continue;
    const setting: Setting = { value: inApi, source: 'flag', name: shortest(flag) };
    // Not by the parser of the command line, which repeats what it refuses: an address may have a password.
    if (option === 'store') checkSetting(option, setting);
    settings.set(option, setting);
  }
  const { tls = {}, trackSizes } = (values['extended'] ?? {}) as Partial<Extended>;
  for (const [name, value] of Object.entries(tls)) {
    const option = `tls.${name}`;
    settings.set(option, { value, source: 'flag', name: flagName(option) });
  }
  if (Object.keys(tls).length > 0 && values['enableSsl'] !== true) {
    const [name = ''] = Object.keys(tls);
    throw new CairnError(
      'ERR_INVALID_ARGUMENT',
      `Expected -Z beside ${flagName(`tls.${name}`)}: without it there is no TLS`,
    );
  }
  if (values['enableSsl'] === true) settings.set(TLS_ASKED, { value: true, source: 'flag', name: '-Z' });
  if (values['enableSasl'] === true) settings.set(SASL_ASKED, { value: true, source: 'flag', name: '-S' });
  if (trackSizes) settings.set('trackSizes', { value: true, source: 'flag', name: '-o track_sizes' });
  if (values['data'] === false) settings.set('data', { value: NO_DATA, source: 'flag', name: '--no-data' });
  return settings;
}

/** Arguments for the eyes of an operator: without the address of a database, which may have a password. */
export function shownArguments(args: readonly string[]): string[] {
  return args.map((each, i) => (args[i - 1] === '--store' ? '...' : each.replace(/^(--store=).*/s, '$1...')));
}

function asInApi(option: string, value: unknown): unknown {
  if (option === 'idleTimeout') return (value as Extended).idleTimeout;
  if (option !== 'port') return value;
  return value === 0 ? NO_TCP : Math.max(value as number, 0);
}

// ---- what they become ----

// The options with a value, by their names behind the prefix.
function optionsFrom(settings: Settings, names: Iterable<string>, prefix = ''): Record<string, unknown> {
  const given = [...names].filter((name) => settings.has(prefix + name));
  return Object.fromEntries(given.map((name) => [name, settings.get(prefix + name)!.value]));
}

const SNAPSHOTS: readonly string[] = Object.keys(SNAPSHOT_OPTIONS).map((name) => `snapshot.${name}`);
const OF_LOG: readonly string[] = [
  ...Object.entries<Row>(CACHE_OPTIONS).flatMap(([name, row]) => (row.ofLog && SETTABLE.has(name) ? [name] : [])),
  ...['ack', ...SNAPSHOTS],
];
const WRITE_BACK: readonly string[] = Object.keys(WRITE_BACK_OPTIONS).map((name) => `writeBack.${name}`);
const LOADS: readonly string[] = Object.keys(LOADS_OPTIONS).map((name) => `loads.${name}`);
const OF_STORE: readonly string[] = [
  ...Object.entries<Row>(CACHE_OPTIONS).flatMap(([name, row]) => (row.ofStore && SETTABLE.has(name) ? [name] : [])),
  ...WRITE_BACK,
  ...LOADS,
];
const OF_MEMORY: readonly string[] = Object.keys(CACHE_OPTIONS).filter(
  (name) => SETTABLE.has(name) && name !== 'data' && !OF_LOG.includes(name) && !OF_STORE.includes(name),
);
/** A server has the level of its cache. */
const SERVED: readonly string[] = Object.keys(SERVE_OPTIONS).filter((name) => SETTABLE.has(name) && name !== 'ack');

export function cacheOptions(settings: Settings, onRecovery: NonNullable<CacheOptions['onRecovery']>): CacheOptions {
  const itemSize = settings.get('maxItemSize')?.value as string | number | undefined;
  const options: CacheOptions = { ...largeValues(itemSize), ...optionsFrom(settings, OF_MEMORY) };
  const directory = directoryOf(settings);
  if (directory === undefined) return onlyReads(settings) ? { ...options, ...storeOptions(settings) } : options;
  const snapshot = optionsFrom(settings, Object.keys(SNAPSHOT_OPTIONS), 'snapshot.');
  const ofLog = OF_LOG.filter((name) => !SNAPSHOTS.includes(name));
  const logged = { ...options, ...optionsFrom(settings, ofLog), data: directory, onRecovery, snapshot };
  return settings.has('store') ? { ...logged, ...storeOptions(settings) } : logged;
}

// Without a log there is only what needs none.
function onlyReads(settings: Settings): boolean {
  return settings.has('store') && settings.get('mode')?.value === 'read-through';
}

function storeOptions(settings: Settings): CacheOptions {
  const ofStore = OF_STORE.filter((name) => !WRITE_BACK.includes(name) && !LOADS.includes(name));
  const loads = optionsFrom(settings, Object.keys(LOADS_OPTIONS), 'loads.');
  const writeBack = optionsFrom(settings, Object.keys(WRITE_BACK_OPTIONS), 'writeBack.');
  const given = (options: object): boolean => Object.keys(options).length > 0;
  return {
    ...optionsFrom(settings, ['store', ...ofStore]),
    ...(given(writeBack) && { writeBack }),
    ...(given(loads) && { loads }),
  };
}

export function serveOptions(settings: Settings): ServeOptions {
  const { port, host, ...rest } = optionsFrom(settings, SERVED) as Omit<ServeOptions, 'port'> & { port?: unknown };
  const tls = optionsFrom(settings, Object.keys(TLS_OPTIONS), 'tls.');
  const options = Object.keys(tls).length === 0 ? rest : { ...rest, tls: tls as unknown as TlsOptions };
  if (port === NO_TCP) return options;
  return { ...options, ...(port === undefined ? {} : { port: port as number }), ...(host && { host }) };
}

/** Where to look beforehand: not at a socket in a directory that the log will make. */
export function probedOptions({ path, ...rest }: ServeOptions, directory: string): ServeOptions {
  if (path === undefined) return rest;
  const isWithin = !relative(directory, dirname(path)).startsWith('..');
  if (!isWithin || existsSync(dirname(path))) return { ...rest, path };
  // Without a path there is TCP, and here there is none unless it was asked for.
  return rest.port === undefined && rest.host === undefined ? { ...rest, port: 0 } : rest;
}

/** Values up to 1 MiB fit any cache; larger ones have to be allowed for. */
function largeValues(itemSize: string | number | undefined): CacheOptions {
  return itemSize === undefined || /^1m(i?b)?$/i.test(String(itemSize)) ? {} : { maxValueBytes: itemSize };
}

export function directoryOf(settings: Settings): string | undefined {
  const directory = settings.get('data')?.value as string | typeof NO_DATA | undefined;
  return directory === NO_DATA ? undefined : directory;
}

// ---- what is wrong with them ----

/** What is wrong with these settings together; undefined: nothing. */
export function contradiction(settings: Settings): string | undefined {
  const port = settings.get('port')?.value;
  const host = settings.get('host');
  if (port === NO_TCP && !settings.has('path')) {
    return 'Expected -p to be a port where no -s is given, got 0, which listens nowhere';
  }
  if (settings.has(TLS_ASKED) && !settings.has('tls.cert')) {
    return `Expected ${flagName('tls.cert')}=FILE beside -Z: the file of the server's certificate`;
  }
  if (settings.has(SASL_ASKED) && !settings.has('saslFile')) {
    return `Expected --sasl-file FILE or ${PASSWORD_VARIABLE} beside -S: the file of the passwords`;
  }
  const where = host?.name ?? flagName('host');
  const addresses = SERVE_OPTIONS.host.check(host?.value, where, () => 0) ?? [];
  if (directoryOf(settings) === undefined) {
    const logged = addresses.find(({ level = 'memory' }) => level !== 'memory');
    if (logged !== undefined) return `Expected --data DIR beside ${where} ${logged.text}: without it there is no log`;
    // --no-data is for the whole file and environment, too.
    const isSetAside = ({ source }: Setting): boolean => settings.has('data') && source !== 'flag';
    const stray = [...OF_LOG, ...(onlyReads(settings) ? [] : ['store', ...OF_STORE])]
      .map((option) => settings.get(option))
      .find(
        // Without a log the level is `memory` anyway.
        (setting) => setting !== undefined && setting.value !== 'memory' && !isSetAside(setting),
      );
    const other = settings.has('store') ? ' or --mode read-through' : '';
    if (stray !== undefined) return `Expected --data DIR${other} beside ${stray.name}: without it there is no log`;
    if (!onlyReads(settings)) return undefined;
  }
  const ofStore = settings.has('store')
    ? undefined
    : OF_STORE.map((option) => settings.get(option)).find((each) => each);
  if (ofStore !== undefined) return `Expected --store beside ${ofStore.name}: without it there is no database`;
  const stored = settings.has('store') ? undefined : addresses.find(({ level }) => level === 'stored');
  if (stored !== undefined) return `Expected --store beside ${where} ${stored.text}: without it there is no database`;
  const open = port === NO_TCP ? undefined : addresses.find((address) => !isLoopback(address.host));
  if (open === undefined || settings.get('allowOpen')?.value === true || asksForPasswords(settings)) return undefined;
  return `${open.text} may be reached from elsewhere, and no client is asked for a password: data that is kept is served there only with passwords (-Y, -S), or with --allow-open`;
}

/** Whether clients have to log in, at every address. */
export function asksForPasswords(settings: Settings): boolean {
  return settings.has('authFile') || settings.has('saslFile');
}
