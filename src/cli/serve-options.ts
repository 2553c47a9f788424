/**
 * The options of `cairn serve`: how they are written, what they become, and what is wrong with them. Nothing is opened
 * or printed here.
 */
import { existsSync } from 'node:fs';
import { dirname, relative } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { CacheOptions, ServeOptions } from '../index.ts';

/** What was given, by the names that commander gives the options. */
export interface ServeFlags {
  port?: number;
  listen?: string[];
  unixSocket?: string;
  unixMask?: number;
  memoryLimit: string;
  connLimit: number;
  threads: number;
  maxItemSize: string;
  listenBacklog: number;
  extended?: ServeOptions;
  /** false: `--no-data`. */
  data?: string | false;
  sync?: string;
  ack?: 'memory' | 'logged';
  recover?: 'log' | 'none';
  logLimit?: string;
  segmentSize?: string;
  ring?: string;
  snapshotEvery?: string;
  snapshotLogBytes?: string;
  allowOpen?: boolean;
  verbose: number;
  testCommands?: boolean;
}

/** Where `npm start` keeps its data; scripts/task.mjs has the same. */
export const START_DIRECTORY = './cairn-data';

/** The least and the most that a cache takes here: its room to grow, four times the memory, is 16 GiB a shard. */
const MEMORY_BYTES_MIN: number = 4 * 2 ** 20;
const MEMORY_BYTES_MAX: number = 2 ** 40;

const EXAMPLES = `
Examples:
  npx cairn-cache serve -m 512              in memory only, on 127.0.0.1:11211
  npx cairn-cache serve --data ./data       kept: no crash takes back what was answered
  npx cairn-cache serve --data ./data --sync 10ms
                                            faster; a power cut takes the last 10 ms, a crash of the process nothing
  npx cairn-cache serve --data ./data -l 127.0.0.1,memory:127.0.0.1:11212
                                            a second port, whose replies do not wait for the log`;

/** What an option of the API is called on the command line. */
export const FLAG_NAMES: Readonly<Record<string, string>> = {
  port: '-p',
  host: '-l',
  path: '-s',
  pathMode: '-a',
  maxMemory: '-m',
  maxConnections: '-c',
  maxItemSize: '-I',
  maxValueBytes: '-I',
  threads: '-t',
  backlog: '-b',
  data: '--data',
  sync: '--sync',
  ack: '--ack',
  recover: '--recover',
  logLimit: '--log-limit',
  segmentSize: '--segment-size',
  ringSize: '--ring',
  'snapshot.every': '--snapshot-every',
  'snapshot.logBytes': '--snapshot-log-bytes',
};

/** Adds the options, their help and its examples. */
export function addServeOptions(command: Command): Command {
  return command
    .helpOption('-h, --help', 'print this help and exit')
    .option('-p, --port <num>', 'TCP port to listen on; -1: any free one, 0: none (default: 11211)', portNumber)
    .option(
      '-l, --listen <addr>',
      'interface to listen on, also several, with ports, and with levels (see --ack): 10.0.0.5,[::1]:11212,memory:127.0.0.1:11213 (default: loopback only; memcached: all)',
      addresses,
    )
    .option('-s, --unix-socket <file>', 'unix socket to listen on (disables TCP unless -p or -l is given)')
    .option('-a, --unix-mask <mask>', 'access mask of the unix socket, in octal (default: 700)', octal)
    .option(
      '-m, --memory-limit <num>',
      'memory in megabytes, all included; or a size such as 2gb, or 25% of the memory here',
      memorySize,
      '64mb',
    )
    .option('-c, --conn-limit <num>', 'max simultaneous connections', wholeNumber(1, 1_000_000), 1024)
    .option(
      '-t, --threads <num>',
      'threads to use (connections are served by one in this version)',
      wholeNumber(1, 1024),
      1,
    )
    .option('-I, --max-item-size <num>', 'max item size, key and header included (min: 1k, max: 1024m)', itemSize, '1m')
    .option('-b, --listen-backlog <num>', 'connections that the system queues', wholeNumber(1, 65_535), 1024)
    .option('-o, --extended <list>', 'extended options, comma separated: idle_timeout=<seconds>', extended)
    .option(
      '--data <dir>',
      `keep the data in this directory: a log of every write, and snapshots (npm start: ${START_DIRECTORY})`,
    )
    .option('--no-data', 'memory only, also where a script gives --data (default, but for npm start)')
    .option(
      '--sync <policy>',
      'when the log goes to the disk: always, an interval such as 10ms, or none (default: always)',
    )
    .addOption(
      new Option(
        '--ack <level>',
        'what replies wait for, but where -l says otherwise: logged (the log, the default with --data) or memory',
      ).choices(['memory', 'logged']),
    )
    .addOption(
      new Option(
        '--recover <source>',
        'what to begin with: log, or none, which gives up what is there, for good',
      ).choices(['log', 'none']),
    )
    .option(
      '--log-limit <size>',
      'what the log may take on the disk, its snapshots not counted: at that, writes are refused (default: 4gb)',
    )
    .option('--segment-size <size>', 'size of a file of the log (default: 64mb, and at most 1/16 of --log-limit)')
    .option('--ring <size>', 'memory for writes on their way to the log, of -m (default: chosen from -m)')
    .option('--snapshot-every <time>', 'a snapshot so often; 0: never for the time alone (default: 1h)')
    .option('--snapshot-log-bytes <size>', 'and when so much log has come (default: twice the last one, at least 64mb)')
    .option('--allow-open', 'with --data: listen also where others can reach it, though nobody is asked for a password')
    .option(
      '-v, --verbose',
      'say which connections are refused or dropped, and what the log does; -vv: also which come and go',
      (_, count: number) => count + 1,
      0,
    )
    .addHelpText('after', EXAMPLES)
    .option('--test-commands', 'answer debugtime, debugpark and their like; never where clients are not tests');
}

// ---- reading them ----

function wholeNumber(min: number, max: number, expected?: string): (text: string) => number {
  return (text) => {
    const number = Number(text);
    if (!/^\d+$/.test(text) || number < min || number > max) {
      throw new InvalidArgumentError(`Expected ${expected ?? `a whole number from ${min} to ${max}`}.`);
    }
    return number;
  };
}

function portNumber(text: string): number {
  return text === '-1' ? -1 : wholeNumber(0, 65_535, 'a port from 0 to 65535, or -1 for any that is free')(text);
}

function addresses(text: string, before: string[] = []): string[] {
  const hosts = text.split(',').map((host) => host.trim());
  if (hosts.includes('')) throw new InvalidArgumentError('Expected addresses with commas between them.');
  return [...before, ...hosts];
}

const LOG_FLAGS = {
  sync: '--sync',
  ack: '--ack',
  recover: '--recover',
  logLimit: '--log-limit',
  segmentSize: '--segment-size',
  ring: '--ring',
  snapshotEvery: '--snapshot-every',
  snapshotLogBytes: '--snapshot-log-bytes',
} as const satisfies Partial<Record<keyof ServeFlags, string>>;

/** What is wrong with these flags together; undefined: nothing. */
export function contradiction(flags: ServeFlags): string | undefined {
  if (flags.port === 0 && flags.unixSocket === undefined) {
    return 'Expected -p to be a port where no -s is given, got 0, which listens nowhere';
  }
  if (flags.data === '') return 'Expected --data to be a directory, got ""';
  if (/^0*[1-9]\d*$/.test(flags.snapshotEvery ?? '')) {
    return `Expected --snapshot-every to be 0 or a time with its unit, such as "60s", got "${flags.snapshotEvery}"`;
  }
  if (directoryOf(flags) === undefined) {
    const logged = flags.listen?.find((listener) => listener.startsWith('logged:') && hostOf(listener) !== 'logged');
    if (logged !== undefined) return `Expected --data DIR beside -l ${logged}: without it there is no log`;
    if (flags.ack === 'memory') return undefined; // Which is how it is.
    const stray = (Object.keys(LOG_FLAGS) as (keyof typeof LOG_FLAGS)[]).find((flag) => flags[flag] !== undefined);
    return stray === undefined
      ? undefined
      : `Expected --data DIR beside ${LOG_FLAGS[stray]}: without it there is no log`;
  }
  const open = flags.port === 0 ? undefined : flags.listen?.find((listener) => !isLoopback(hostOf(listener)));
  if (open === undefined || flags.allowOpen) return undefined;
  return `${open} may be reached from elsewhere, and no client is asked for a password: data that is kept is served there only with --allow-open`;
}

export function directoryOf(flags: ServeFlags): string | undefined {
  return flags.data === false ? undefined : flags.data;
}

/** Of `host`, `host:port`, `[v6]:port` or a v6 address, with or without a level in front. */
function hostOf(listener: string): string {
  const address = listener.replace(/^(memory|logged):(?!\d{1,5}$)/, '');
  const [, bracketed, plain] = /^(?:\[([^\]]*)\]|([^:]*))(?::\d+)?$/.exec(address) ?? [];
  return bracketed ?? plain ?? address;
}

export function cacheOptions(flags: ServeFlags, onRecovery: NonNullable<CacheOptions['onRecovery']>): CacheOptions {
  const options: CacheOptions = { maxMemory: flags.memoryLimit, ...largeValues(flags.maxItemSize) };
  const directory = directoryOf(flags);
  if (directory === undefined) return options;
  options.data = directory;
  options.onRecovery = onRecovery;
  if (flags.sync !== undefined) options.sync = flags.sync as NonNullable<CacheOptions['sync']>;
  if (flags.ack !== undefined) options.ack = flags.ack;
  if (flags.recover !== undefined) options.recover = flags.recover;
  if (flags.logLimit !== undefined) options.logLimit = flags.logLimit;
  if (flags.segmentSize !== undefined) options.segmentSize = flags.segmentSize;
  if (flags.ring !== undefined) options.ringSize = flags.ring;
  options.snapshot = {
    ...(flags.snapshotEvery === undefined ? {} : { every: durationOf(flags.snapshotEvery) }),
    ...(flags.snapshotLogBytes === undefined ? {} : { logBytes: flags.snapshotLogBytes }),
  };
  return options;
}

/** "0" is never; other times have a unit. */
function durationOf(text: string): number | string {
  return text === '0' ? 0 : text;
}

function octal(text: string): number {
  if (!/^0?[0-7]{1,3}$/.test(text)) throw new InvalidArgumentError('Expected an octal number up to 777.');
  return Number.parseInt(text, 8);
}

function extended(text: string, before: ServeOptions = {}): ServeOptions {
  const options = { ...before };
  for (const each of text.split(',')) {
    const [, seconds] = /^idle_timeout=(\d{1,7})$/.exec(each.trim()) ?? [];
    if (seconds === undefined)
      throw new InvalidArgumentError(`Expected idle_timeout=<seconds>, got ${JSON.stringify(each)}.`);
    options.idleTimeout = Number(seconds) * 1000;
  }
  return options;
}

/** memcached's sizes are whole megabytes; ours may have a unit, or be a share of the memory here. */
function memorySize(text: string): string {
  if (/^\d+(\.\d+)?%$/.test(text) && Number.parseFloat(text) > 0 && Number.parseFloat(text) <= 100) return text;
  const size = /^\d+$/.test(text) ? `${text}mb` : text;
  const bytes = bytesOf(size);
  if (bytes === undefined) {
    throw new InvalidArgumentError('Expected megabytes, such as 512, a size such as 2gb, or a share such as 25%.');
  }
  if (bytes < MEMORY_BYTES_MIN) throw new InvalidArgumentError('Expected at least 4 megabytes.');
  if (bytes > MEMORY_BYTES_MAX) throw new InvalidArgumentError('Expected at most 1tb.');
  return size;
}

/** Of a number with a unit of bytes. */
function bytesOf(text: string): number | undefined {
  const [, number, unit] = /^(\d+(?:\.\d+)?)\s*(?:([kmgt])(?:i?b)?|b)$/i.exec(text) ?? [];
  return number === undefined ? undefined : Number(number) * 1024 ** ' kmgt'.indexOf((unit ?? ' ').toLowerCase());
}

/** memcached's item sizes are bytes; ours may have a unit. */
function itemSize(text: string): string {
  if (/^\d+$/.test(text) || bytesOf(text) !== undefined) return text;
  throw new InvalidArgumentError('Expected bytes, such as 1048576, or a size such as 2m.');
}

function itemBytes(text: string): number | string {
  return /^\d+$/.test(text) ? Number(text) : text;
}

export function serveOptions(flags: ServeFlags): ServeOptions {
  const options: ServeOptions = {
    ...flags.extended,
    maxConnections: flags.connLimit,
    maxItemSize: itemBytes(flags.maxItemSize),
    backlog: flags.listenBacklog,
    threads: flags.threads,
    verbosity: flags.verbose,
    testCommands: flags.testCommands ?? false,
  };
  if (flags.unixSocket !== undefined) options.path = flags.unixSocket;
  if (flags.unixMask !== undefined) options.pathMode = flags.unixMask;
  // 0 is "no TCP" on the command line, as in memcached, and "any port" in the API, as in Node.
  if (flags.port !== undefined && flags.port !== 0) options.port = Math.max(flags.port, 0);
  if (flags.listen !== undefined && flags.port !== 0) options.host = flags.listen;
  return options;
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
function largeValues(itemSize: string): { maxValueBytes?: number | string } {
  return /^1m(i?b)?$/i.test(itemSize) ? {} : { maxValueBytes: itemBytes(itemSize) };
}

/** An address that only this machine reaches. */
export function isLoopback(host: string): boolean {
  return /^127\.\d+\.\d+\.\d+$|^::1$|^::ffff:127\.|^localhost$/.test(host);
}
