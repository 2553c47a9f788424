/**
 * `cairn serve`: a cache of its own behind memcached's port. Options have memcached's short and long names and mean the
 * same; what differs is said in their descriptions. With `--data` the cache has a log, and outlives the process.
 */
import { existsSync, readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { dirname, relative } from 'node:path';
import { performance } from 'node:perf_hooks';
import { Command, InvalidArgumentError, Option } from 'commander';
import type { Cache, CacheOptions, MemcachedServer, ServeOptions, ServerAddress } from '../index.ts';
import {
  describeEnd,
  describeLoss,
  describeNotice,
  describeRecovery,
  NoticeFilter,
  RecoveryDisplay,
  sizeText,
} from './serve-data.ts';

interface ServeFlags {
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

/** How long clients may take to get their last replies when the server is asked to end. */
const DRAIN = '5s';
/** And the log to take what is left, with a last snapshot, ... */
const CLOSE = '10s';
/** ... or without much patience, at a second signal. */
const CLOSE_SOON = '1s';
/** One Ctrl-C comes twice where the terminal and npm, or timeout(1), both send it. */
const SAME_SIGNAL_MS = 250;

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

/** Where `npm start` keeps its data; scripts/task.mjs has the same. */
const START_DIRECTORY = './cairn-data';

/** Makes the subcommand. */
export function serveCommand(): Command {
  return new Command('serve')
    .description(
      'serve a cache to memcached clients: in memory only, as memcached does, or kept in a directory (--data)',
    )
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
    .option('--test-commands', 'answer debugtime, debugpark and their like; never where clients are not tests')
    .action(async (flags: ServeFlags) => {
      process.exitCode = await run(flags);
    });
}

// ---- options ----

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
function contradiction(flags: ServeFlags): string | undefined {
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

function directoryOf(flags: ServeFlags): string | undefined {
  return flags.data === false ? undefined : flags.data;
}

/** Of `host`, `host:port`, `[v6]:port` or a v6 address, with or without a level in front. */
function hostOf(listener: string): string {
  const address = listener.replace(/^(memory|logged):(?!\d{1,5}$)/, '');
  const [, bracketed, plain] = /^(?:\[([^\]]*)\]|([^:]*))(?::\d+)?$/.exec(address) ?? [];
  return bracketed ?? plain ?? address;
}

function cacheOptions(flags: ServeFlags, onRecovery: NonNullable<CacheOptions['onRecovery']>): CacheOptions {
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

function serveOptions(flags: ServeFlags): ServeOptions {
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
function probedOptions({ path, ...rest }: ServeOptions, directory: string): ServeOptions {
  if (path === undefined) return rest;
  const isWithin = !relative(directory, dirname(path)).startsWith('..');
  if (!isWithin || existsSync(dirname(path))) return { ...rest, path };
  // Without a path there is TCP, and here there is none unless it was asked for.
  return rest.port === undefined && rest.host === undefined ? { ...rest, port: 0 } : rest;
}

// ---- running ----

// What an option of the API is called on the command line.
const FLAG_NAMES: Readonly<Record<string, string>> = {
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

/** A socket's path has -1 here. */
function isPort(cause: NodeJS.ErrnoException & { port?: number }): boolean {
  return (cause.port ?? 0) > 0;
}

function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const message = error.message
    .replace(/^Expected ([\w.]+)/, (all, name: string) =>
      FLAG_NAMES[name] === undefined ? all : `Expected ${FLAG_NAMES[name]}`,
    )
    // Others that it speaks of; what is one word may be just that.
    .replace(/\b[a-z]+(?:[A-Z][a-z]+)+\b/g, (name) => FLAG_NAMES[name] ?? name);
  const cause = error.cause as NodeJS.ErrnoException | undefined;
  if (cause?.code === 'EADDRINUSE' && message.endsWith(': it is in use')) {
    const other = isPort(cause) ? '-p PORT takes another port' : '-s FILE takes another path';
    return `${message}. Is another server running there? ${other}`;
  }
  if ('code' in error && error.code === 'ERR_LOG_LOCKED') return `${message}. --data DIR takes another directory`;
  return message;
}

/** Serves until a signal comes. Resolves to the exit code. */
async function run(flags: ServeFlags): Promise<number> {
  const wrong = contradiction(flags);
  if (wrong !== undefined) {
    console.error(`cairn serve: ${wrong}`);
    return 1;
  }
  let server: MemcachedServer;
  let cache: Cache | undefined;
  const display = new RecoveryDisplay({
    isTerminal: process.stderr.isTTY === true,
    write: (text) => process.stderr.write(text),
  });
  try {
    // Here, because it is what fails where the addon is missing.
    const { Cache, MemcachedServer, serve } = await import('../index.ts');
    const options = serveOptions(flags);
    // Before a log is read, which may take long, and before anything is written to its directory.
    const directory = directoryOf(flags);
    if (directory !== undefined) await MemcachedServer.probe(probedOptions(options, directory));
    cache = await Cache.open(cacheOptions(flags, (progress) => display.show(progress)));
    display.end();
    announceData(cache, flags);
    server = await serve(cache, options);
  } catch (error) {
    display.end();
    console.error(`cairn serve: ${explain(error)}`);
    await cache?.close();
    return 1;
  }
  announce(server, cache, flags);
  const ending = new Ending(server, cache);
  return ending.exitCode;
}

/** Values up to 1 MiB fit any cache; larger ones have to be allowed for. */
function largeValues(itemSize: string): { maxValueBytes?: number | string } {
  return /^1m(i?b)?$/i.test(itemSize) ? {} : { maxValueBytes: itemBytes(itemSize) };
}

/**
 * Ends at a signal: clients get their last replies, the log what is left, and a last snapshot is taken. A second signal
 * does not wait for clients, or, when they are gone, for the snapshot. Nothing that was answered depends on an orderly
 * end.
 */
class Ending {
  /** Resolves when all is over. */
  readonly exitCode: Promise<number>;
  readonly #server: MemcachedServer;
  readonly #cache: Cache;
  #signals = 0;
  #signalledAt = 0;
  #clientsAreGone = false;
  readonly #onSignal = (): void => {
    const now = performance.now();
    if (this.#signals > 0 && now - this.#signalledAt < SAME_SIGNAL_MS) return;
    this.#signalledAt = now;
    if (this.#signals++ === 0) void this.#server.close({ timeout: DRAIN });
    else if (!this.#clientsAreGone) this.#server.destroy();
    else process.exit(); // Which still waits for what is on its way to the log.
  };

  constructor(server: MemcachedServer, cache: Cache) {
    this.#server = server;
    this.#cache = cache;
    process.on('SIGINT', this.#onSignal);
    process.on('SIGTERM', this.#onSignal);
    this.exitCode = new Promise((resolve) => server.once('close', () => resolve(this.#end())));
  }

  async #end(): Promise<number> {
    this.#clientsAreGone = true;
    const { data } = this.#cache.options;
    const entries = this.#cache.size;
    try {
      await this.#cache.close({ timeout: this.#signals > 1 ? CLOSE_SOON : CLOSE });
    } catch (error) {
      console.error(`cairn serve: ${explain(error)}`);
      return 1;
    }
    if (data !== undefined) console.log(describeEnd(data, entries));
    return 0;
  }
}

// ---- what is printed ----

function announceData(cache: Cache, flags: ServeFlags): void {
  const { ack, data, sync } = cache.options;
  if (data === undefined || sync === undefined) return;
  if (cache.recovery !== undefined) {
    const { line, warnings } = describeRecovery(data, cache.recovery, cache.size);
    console.log(line);
    for (const warning of warnings) console.error(`Warning: ${warning}`);
  }
  const stats = cache.stats().log;
  const syncMs = stats === undefined || stats.syncs === 0 ? undefined : stats.syncMeanMs;
  console.log(describeLoss({ directory: data, ack, sync, syncMs }));
  const filter = new NoticeFilter();
  cache.on('log', (notice) => {
    if (filter.isWorthSaying(notice) || flags.verbose > 0) console.error(describeNotice(notice));
  });
}

/** Files that are open beside connections: Node's own, listening sockets, the log with its threads. */
const FILES_BESIDE = 32;

// Where no file may be opened any more, connections are accepted and closed by libuv, and nobody is told.
function warnOfFileLimit(connections: number): void {
  const files = openFilesMax();
  if (files === undefined || files >= connections + FILES_BESIDE) return;
  console.error(
    `Warning: this process may open ${files} files (ulimit -n), too few for ${connections} connections (-c): those beyond are closed without a word`,
  );
}

/** undefined: there is none, or the system does not say. */
function openFilesMax(): number | undefined {
  if (!existsSync('/proc/self/limits')) return undefined;
  const [, files] = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1')) ?? [];
  return files === undefined ? undefined : Number(files);
}

/** What this process may use: of the machine, or of its container. */
function memoryHere(): number {
  const constrained = process.constrainedMemory();
  return constrained > 0 ? Math.min(totalmem(), constrained) : totalmem();
}

function warnOfMemory(bytes: number): void {
  if (bytes <= memoryHere()) return;
  console.error(
    `Warning: -m asks for ${sizeText(bytes)}, and there are ${sizeText(memoryHere())} here: the system may end this process when the cache fills`,
  );
}

function announce(server: MemcachedServer, cache: Cache, flags: ServeFlags): void {
  server.on('error', (error) => console.error(`cairn serve: ${error.message}`));
  server.on('warning', (message) => console.error(`Warning: ${message}`));
  if (flags.verbose >= 1) {
    server.on('disconnect', (peer, reason) => {
      if (reason !== 'ended' || flags.verbose >= 2) console.error(`${peer} closed: ${reason}`);
    });
  }
  if (flags.verbose >= 2) server.on('connect', (peer) => console.error(`${peer} opened`));

  warnOfFileLimit(flags.connLimit);
  warnOfMemory(cache.options.maxMemory);
  const where = server.addresses.map((address) => textOf(address) + levelText(address, server)).join(' and ');
  const away = server.addresses.filter((address) => 'host' in address && !isLoopback(address.host));
  const loopbackOnly = flags.listen === undefined && server.addresses.some((address) => 'host' in address);
  const note = loopbackOnly ? ' (this machine only; -l ADDRESS listens elsewhere)' : '';
  console.log(`Listening on ${where}${note}`);
  if (away.length > 0) {
    console.error(
      `Warning: ${away.map(textOf).join(' and ')} can be reached from elsewhere, and no client is asked for a password`,
    );
  }
  if (flags.testCommands) console.error('Warning: test commands are on; any client can stop others and move the clock');
  if (flags.threads > 1)
    console.error(`Warning: -t ${flags.threads}: connections are served by one thread in this version`);
  if (/^(start|npx)$/.test(process.env['npm_lifecycle_event'] ?? '')) suggest(server.addresses, directoryOf(flags));
}

function textOf(address: ServerAddress): string {
  if ('path' in address) return address.path;
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

function levelText({ ack }: ServerAddress, server: MemcachedServer): string {
  if (ack === server.ack) return '';
  return ack === 'memory' ? ' (its replies do not wait)' : ' (its replies wait for the log)';
}

function isLoopback(host: string): boolean {
  return /^127\.\d+\.\d+\.\d+$|^::1$|^::ffff:127\.|^localhost$/.test(host);
}

/** Commands to try. The first needs nothing but Node, which is what has just been started. */
function suggest(addresses: readonly ServerAddress[], directory: string | undefined): void {
  const tcp = addresses.find((address) => 'port' in address);
  if (tcp === undefined) return;
  const host = tcp.host === '0.0.0.0' || tcp.host === '::' ? '127.0.0.1' : tcp.host;
  const { port } = tcp;
  const ask = (commands: string): string =>
    `node -e "require('net').connect(${port}, '${host}').on('connect', function () { this.write('${commands}quit\\r\\n') }).pipe(process.stdout)"`;
  console.log(`
Try, in another terminal:
  ${ask('set greeting 0 0 5\\r\\nhello\\r\\nget greeting\\r\\n')}
  ${ask('stats\\r\\n')}
  python3 -c "from pymemcache.client.base import Client; c = Client(('${host}', ${port})); c.set('k', 'v'); print(c.get('k'))"`);
  if (directory !== undefined) {
    console.log(`
A crash takes nothing of it back:
  kill -9 ${process.pid}
  ${startCommand()}
  ${ask('get greeting\\r\\n')}`);
  }
  console.log(`
Ctrl-C ends it.`);
}

/** The command that started this, `npm start` or npx, with its arguments. */
function startCommand(): string {
  const given = process.argv.slice(process.argv.indexOf('serve') + 1);
  if (process.env['npm_lifecycle_event'] === 'npx') return ['npx cairn-cache serve', ...given].join(' ');
  // scripts/task.mjs puts the directory in front.
  const own = given[0] === '--data' && given[1] === START_DIRECTORY ? given.slice(2) : given;
  return own.length === 0 ? 'npm start' : `npm start -- ${own.join(' ')}`;
}
