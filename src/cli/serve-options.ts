/**
 * The options of `cairn serve`: how they are written, what they become, and what is wrong with them. Nothing is opened
 * or printed here. What each takes, and its line of help, is in the table of src/options/.
 */
import { existsSync } from 'node:fs';
import { dirname, relative } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { messageIn } from '../errors.ts';
import type { CacheOptions, ServeOptions } from '../index.ts';
import { CACHE_OPTIONS, type Flag, isLoopback, type Row, SERVE_OPTIONS, SNAPSHOT_OPTIONS } from '../options.ts';

/** What was given, by the names that commander gives the options: what is left out was not. */
export interface ServeFlags {
  port?: number;
  listen?: string[];
  unixSocket?: string;
  unixMask?: number;
  memoryLimit?: string;
  connLimit?: number;
  threads?: number;
  maxItemSize?: string | number;
  listenBacklog?: number;
  extended?: number;
  /** false: `--no-data`. */
  data?: string | false;
  allowOpen?: boolean;
  verbose?: number;
  testCommands?: boolean;
}

/** Where `npm start` keeps its data; scripts/task.mjs has the same. */
export const START_DIRECTORY = './cairn-data';

const EXAMPLES = `
Examples:
  npx cairn-cache serve -m 512              in memory only, on 127.0.0.1:11211
  npx cairn-cache serve --data ./data       kept: no crash takes back what was answered
  npx cairn-cache serve --data ./data --sync 10ms
                                            faster; a power cut takes the last 10 ms, a crash of the process nothing
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
  ...of(SERVE_OPTIONS, '', ['port', 'host', 'path', 'pathMode']),
  ...of(CACHE_OPTIONS, '', ['maxMemory']),
  ...of(SERVE_OPTIONS, '', ['maxConnections', 'threads', 'maxItemSize', 'backlog']),
  ...of(SERVE_OPTIONS, '', ['idleTimeout', 'verbosity', 'testCommands']),
  ...of(CACHE_OPTIONS, '', ['data']),
  { flag: { names: '--no-data', default: '', doc: 'memory only, even if a script gives `--data`' } },
  ...of(CACHE_OPTIONS, '', ['sync', 'ack', 'recover', 'logLimit', 'segmentSize', 'ringSize']),
  ...of(SNAPSHOT_OPTIONS, 'snapshot.', ['every', 'logBytes']),
  {
    flag: {
      names: '--allow-open',
      default: '',
      doc: 'allows `--data` together with addresses beyond loopback: every client there can read and write all entries',
    },
  },
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
]);

/** What an option of the API is called on the command line. */
export function flagName(option: string): string {
  return flagNames.get(option) ?? option;
}

/** Adds the options, their help and its examples. */
export function addServeOptions(command: Command): Command {
  command.helpOption('-h, --help', 'print this help and exit');
  for (const each of flags) command.addOption(optionOf(each));
  return command.addHelpText('after', EXAMPLES);
}

function optionOf({ option, row, flag }: Flagged): Option {
  const shown = flag.default === '' ? '' : ` (default: ${flag.default})`;
  const made = new Option(flag.names, plain(flag.doc) + plain(shown));
  if (option === 'verbosity') return made.argParser((_, before: unknown) => (Number(before) || 0) + 1);
  if (row === undefined || !flag.names.includes('<')) return made;
  return made.argParser((text: string, before: unknown) => {
    const value = flag.read === undefined ? text : flag.read(text);
    // The port's -1 and 0 are the command's own.
    if (value === undefined) throw wrongFlag(`Expected ${shortest(flag)} to be ${plain(flag.expected!)}`, text);
    if (value !== -1) check(row, option!, value);
    return Array.isArray(value) && Array.isArray(before) ? [...before, ...value] : value;
  });
}

function check(row: Row, option: string, value: unknown): void {
  try {
    // How much memory there is is not known before the addon is loaded: a share of it is checked then.
    row.check(value, option, () => Number.MAX_SAFE_INTEGER);
  } catch (error) {
    throw new InvalidArgumentError(`${messageIn(error as Error, flagName)}.`);
  }
}

function wrongFlag(sentence: string, text: string): InvalidArgumentError {
  return new InvalidArgumentError(`${sentence}, got ${JSON.stringify(text)}.`);
}

// A terminal shows no code.
function plain(text: string): string {
  return text.replaceAll('`', '');
}

// ---- what they become ----

// What was given of an option, by the name of its flag.
function given(values: ServeFlags, flag: Flag): unknown {
  return (values as Record<string, unknown>)[new Option(flag.names).attributeName()];
}

// The options that were given, by their names.
function optionsFrom(values: ServeFlags, names: readonly string[]): Record<string, unknown> {
  const chosen = flags.filter(({ option }) => option !== undefined && names.includes(option));
  return Object.fromEntries(
    chosen.flatMap(({ option, flag }) => {
      const value = given(values, flag);
      return value === undefined ? [] : [[option!.replace('snapshot.', ''), value]];
    }),
  );
}

const LOG_OPTIONS: readonly string[] = ['sync', 'ack', 'recover', 'logLimit', 'segmentSize', 'ringSize'];
/** A server has the level of its cache. */
const SERVED: readonly string[] = Object.keys(SERVE_OPTIONS).filter((name) => name !== 'ack');
const SNAPSHOTS: readonly string[] = Object.keys(SNAPSHOT_OPTIONS).map((name) => `snapshot.${name}`);

export function cacheOptions(values: ServeFlags, onRecovery: NonNullable<CacheOptions['onRecovery']>): CacheOptions {
  const options: CacheOptions = { ...optionsFrom(values, ['maxMemory']), ...largeValues(values.maxItemSize) };
  const directory = directoryOf(values);
  if (directory === undefined) return options;
  const snapshot = optionsFrom(values, SNAPSHOTS);
  return { ...options, ...optionsFrom(values, LOG_OPTIONS), data: directory, onRecovery, snapshot };
}

export function serveOptions(values: ServeFlags): ServeOptions {
  const { port, host, ...options } = optionsFrom(values, SERVED) as ServeOptions;
  // 0 is "no TCP" on the command line, as in memcached, and "any port" in the API, as in Node.
  if (port === 0) return options;
  return { ...options, ...(port === undefined ? {} : { port: Math.max(port, 0) }), ...(host && { host }) };
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

export function directoryOf(values: ServeFlags): string | undefined {
  return values.data === false ? undefined : values.data;
}

// ---- what is wrong with them ----

/** What is wrong with these flags together; undefined: nothing. */
export function contradiction(values: ServeFlags): string | undefined {
  if (values.port === 0 && values.unixSocket === undefined) {
    return 'Expected -p to be a port where no -s is given, got 0, which listens nowhere';
  }
  const addresses = SERVE_OPTIONS.host.check(values.listen, '-l', () => 0) ?? [];
  if (directoryOf(values) === undefined) {
    const logged = addresses.find(({ level }) => level === 'logged');
    if (logged !== undefined) return `Expected --data DIR beside -l ${logged.text}: without it there is no log`;
    const stray = flags.find(
      ({ option = '', flag }) =>
        (LOG_OPTIONS.includes(option) || SNAPSHOTS.includes(option)) &&
        given(values, flag) !== undefined &&
        given(values, flag) !== 'memory', // Which is how it is.
    );
    return stray && `Expected --data DIR beside ${shortest(stray.flag)}: without it there is no log`;
  }
  const open = values.port === 0 ? undefined : addresses.find(({ host }) => !isLoopback(host));
  if (open === undefined || values.allowOpen) return undefined;
  return `${open.text} may be reached from elsewhere, and no client is asked for a password: data that is kept is served there only with --allow-open`;
}
