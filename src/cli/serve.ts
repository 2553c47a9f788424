/**
 * `cairn serve`: its own cache behind memcached's port. Options have memcached's short and long names and mean the
 * same; what differs is said in their descriptions. With `--data` the cache has a log, and outlives the process.
 */
import { existsSync, readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { Command } from 'commander';
import { messageIn, reasonOf } from '../errors.ts';
import type { AckLevel, Cache, MemcachedServer, ServerAddress } from '../index.ts';
import { isLoopback, SERVE_OPTIONS } from '../options.ts';
import { version } from '../version.ts';
import { becomeUser, isDaemon, keepPidFile, startDaemon, tellReady, writePorts } from './daemon.ts';
import { withoutEffect } from './memcached-options.ts';
import {
  describeEnd,
  describeLoss,
  describeNotice,
  describeRecovery,
  NoticeFilter,
  RecoveryDisplay,
} from './serve-data.ts';
import { retryAtSignal } from './serve-letters.ts';
import {
  addServeOptions,
  asksForPasswords,
  cacheOptions,
  contradiction,
  directoryOf,
  flagName,
  probedOptions,
  type ServeFlags,
  START_DIRECTORY,
  START_STORE,
  serveOptions,
  settingsOfFlags,
  shownArguments,
  withPasswordVariable,
} from './serve-options.ts';
import { describeOwed, describeRest, describeStore, describeWriteBack } from './serve-store.ts';
import { showWarmUp } from './serve-warm-up.ts';
import { merge, nameIn, type Settings, settingsOfEnvironment, settingsOfFile } from './settings.ts';

/** How long clients may take to get their last replies when the server is asked to end. */
const DRAIN = '5s';
/** And the log to take what is left, with a last snapshot, ... */
const CLOSE = '10s';
/** ... or without much patience, at a second signal. */
const CLOSE_SOON = '1s';
/** One Ctrl-C comes twice where the terminal and npm, or timeout(1), both send it. */
const SAME_SIGNAL_MS = 250;

/** Makes the subcommand. */
export function serveCommand(): Command {
  const command = new Command('serve').description(
    'serve a cache to memcached clients: in memory only, as memcached does, or kept in a directory (--data)',
  );
  return addServeOptions(command).action(async (flags: ServeFlags) => {
    process.exitCode = await run(flags);
  });
}

// ---- running ----

/** A socket's path has -1 here. */
function isPort(cause: NodeJS.ErrnoException & { port?: number }): boolean {
  return (cause.port ?? 0) > 0;
}

/** An error, with the options called as the user called them. */
function explain(error: unknown, settings: Settings): string {
  if (!(error instanceof Error)) return reasonOf(error);
  const message = messageIn(error, nameIn(settings, flagName));
  const cause = error.cause as NodeJS.ErrnoException | undefined;
  if (cause?.code === 'EADDRINUSE' && message.endsWith(': it is in use')) {
    const other = isPort(cause) ? '-p PORT takes another port' : '-s FILE takes another path';
    return `${message}. Is another server running there? ${other}`;
  }
  if ('code' in error && error.code === 'ERR_LOG_LOCKED') return `${message}. --data DIR takes another directory`;
  return message;
}

/** The settings of all sources. Undefined: one is wrong by itself, as was printed in the name of the command. */
export async function settingsFor(
  command: 'serve' | 'config' | 'dead-letters retry',
  flags: ServeFlags,
): Promise<Settings | undefined> {
  const file = (flags['config'] as string | undefined) ?? process.env['CAIRN_CONFIG'];
  try {
    const environment = settingsOfEnvironment(process.env, (message) => console.error(`Warning: ${message}`));
    const fromFile: Settings = file === undefined || file === '' ? new Map() : await settingsOfFile(file);
    return withPasswordVariable(merge(settingsOfFlags(flags), environment, fromFile), process.env);
  } catch (error) {
    console.error(`cairn ${command}: ${explain(error, new Map())}`);
    return undefined;
  }
}

/** Serves until a signal comes. Resolves to the exit code. */
async function run(flags: ServeFlags): Promise<number> {
  if (flags['version'] === true || flags['license'] === true) {
    console.log(
      flags['version'] === true ? version : readFileSync(new URL('../../LICENSE', import.meta.url), 'utf8').trimEnd(),
    );
    return 0;
  }
  const settings = await settingsFor('serve', flags);
  if (settings === undefined) return 1;
  const wrong = contradiction(settings);
  if (wrong !== undefined) {
    console.error(`cairn serve: ${wrong}`);
    return 1;
  }
  if (flags['daemon'] === true && !isDaemon()) return startDaemon();
  try {
    if (flags['user'] !== undefined) becomeUser(flags['user'] as string);
  } catch (error) {
    console.error(`cairn serve: ${reasonOf(error)}`);
    return 1;
  }
  const idle = withoutEffect(flags);
  if (idle.length > 0) console.error(`Without effect here: ${idle.join(', ')}`);
  // Warnings of the library, in the words of the command line.
  const tell = (warning: Error): void => console.error(`Warning: ${explain(warning, settings)}`);
  process.removeAllListeners('warning').on('warning', tell);
  let server: MemcachedServer;
  let cache: Cache | undefined;
  // From the beginning to the end of the process: it would end one that does not listen for it.
  retryAtSignal(
    () => cache,
    (line) => console.log(line),
  );
  const display = new RecoveryDisplay({
    isTerminal: process.stderr.isTTY === true,
    write: (text) => process.stderr.write(text),
  });
  try {
    // Here, because it is what fails where the addon is missing.
    const { Cache, MemcachedServer, serve } = await import('../index.ts');
    const options = serveOptions(settings);
    // Before a log is read, which may take long, and before anything is written to its directory.
    const directory = directoryOf(settings);
    if (directory !== undefined) await MemcachedServer.probe(probedOptions(options, directory));
    cache = await Cache.open(cacheOptions(settings, (progress) => display.show(progress)));
    display.end();
    announceData(cache, settings);
    announceStore(cache);
    server = await serve(cache, options);
  } catch (error) {
    display.end();
    console.error(`cairn serve: ${explain(error, settings)}`);
    await cache?.close();
    return 1;
  }
  // First: clients are served while this thread has not printed where.
  const ending = new Ending(server, cache);
  reloadAtSignal(server, settings);
  announce(server, settings);
  for (const complaint of leaveFiles(server, flags)) console.error(`Warning: ${complaint}`);
  if (isDaemon()) tellReady();
  showWarmUp({
    output: { isTerminal: process.stderr.isTTY === true, write: (text) => process.stderr.write(text) },
    stats: () => {
      const { warmUp, chargedBytes, limitBytes } = cache.closed ? { warmUp: undefined } : cache.stats();
      return warmUp === undefined ? undefined : { warmUp, chargedBytes, limitBytes };
    },
    print: (line) => console.log(line),
  });
  return ending.exitCode;
}

/** SIGHUP has the files of certificates and passwords read again, as memcached does. */
function reloadAtSignal(server: MemcachedServer, settings: Settings): void {
  const { tls, authFile, saslFile } = serveOptions(settings);
  const files: [what: string, reload: () => void, others: string][] = [];
  if (tls !== undefined) files.push(['certificates', () => server.reloadCertificates(), 'open connections go on']);
  if ((authFile ?? saslFile) !== undefined)
    files.push(['passwords', () => server.reloadPasswords(), 'clients that have logged in stay so']);
  if (files.length === 0) return;
  const reload = (): void => {
    for (const [what, read, others] of files) {
      try {
        read();
        console.log(`The ${what} are read again; ${others}`);
      } catch (error) {
        console.error(`The ${what} stay as they were: ${explain(error, settings)}`);
      }
    }
  };
  process.on('SIGHUP', reload);
  server.once('close', () => process.off('SIGHUP', reload));
}

/** For those who look for the server. Returns what could not be written. */
function leaveFiles({ addresses }: MemcachedServer, flags: ServeFlags): string[] {
  const { pidfile } = flags as { pidfile?: string };
  const ports = process.env['MEMCACHED_PORT_FILENAME'];
  return [
    pidfile === undefined ? undefined : keepPidFile(pidfile),
    ports === undefined ? undefined : writePorts(ports, addresses),
  ].filter((complaint) => complaint !== undefined);
}

/**
 * Ends at a signal, or when a client asks for it (-A): clients get their last replies, the log what is left, and a last
 * snapshot is taken. A second signal does not wait for clients, or, when they are gone, for the snapshot. Nothing that
 * was answered depends on an orderly end.
 */
class Ending {
  /** Resolves when all is over. */
  readonly exitCode: Promise<number>;
  readonly #server: MemcachedServer;
  readonly #cache: Cache;
  #signals = 0;
  #signalledAt = 0;
  #clientsAreGone = false;
  // The server is closing itself.
  readonly #onShutdown = (): void => {
    this.#signals++;
    console.log('A client has ended this server (shutdown)');
  };
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
    server.once('shutdown', this.#onShutdown);
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
      console.error(`cairn serve: ${explain(error, new Map())}`);
      return 1;
    }
    if (data !== undefined) console.log(describeEnd(data, entries));
    return 0;
  }
}

// ---- what is printed ----

const verbosityOf = (settings: Settings): number => Number(settings.get('verbosity')?.value ?? 0);

function announceData(cache: Cache, settings: Settings): void {
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
    if (filter.isWorthSaying(notice) || verbosityOf(settings) > 0) console.error(describeNotice(notice));
  });
}

/** When it is looked how much of the log the database lacks. */
const REST_MS = 500;

function announceStore(cache: Cache): void {
  const { store, stores = {} } = cache.options;
  const stats = cache.stats().writeBack;
  if (store === undefined) return;
  if (stats === undefined) {
    for (const each of [store, ...Object.values(stores)]) console.log(`Reading from ${each}`);
    return;
  }
  const { stores: each = { default: stats } } = stats;
  for (const [name, its] of Object.entries(each)) console.log(describeStore(stores[name] ?? store, its));
  const { owed } = cache.recovery ?? { owed: 0 };
  if (owed > 0) console.log(describeOwed(owed));
  if (store === START_STORE && process.env['npm_lifecycle_event'] === 'start')
    console.log('Any other database: npm start -- --store postgres://user@host/name, its password in PGPASSWORD');
  // What an earlier run has left, if it is not written by then.
  setTimeout(() => {
    const { behindBytes } = cache.closed ? { behindBytes: 0 } : cache.stats().writeBack!;
    if (behindBytes > 0) console.log(describeRest(behindBytes));
  }, REST_MS).unref();
  cache.on('write-back', (notice) => console.error(describeWriteBack(notice)));
}

/** Files that are open beside connections: Node's own, listening sockets, the log with its threads. */
const FILES_BESIDE = 32;

// When the process may open no more files, connections wait in the system's queue, and neither side is told; libuv
// accepts and closes them.
function warnOfFileLimit(connections: number): void {
  const files = openFilesMax();
  if (files === undefined || files >= connections + FILES_BESIDE) return;
  console.error(
    `Warning: this process may open ${files} files (ulimit -n), too few for ${connections} connections (-c): those beyond wait or are closed, without a word`,
  );
}

/** undefined: there is none, or the system does not say. */
function openFilesMax(): number | undefined {
  if (!existsSync('/proc/self/limits')) return undefined;
  const [, files] = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1')) ?? [];
  return files === undefined ? undefined : Number(files);
}

function announce(server: MemcachedServer, settings: Settings): void {
  server.on('error', (error) => console.error(`cairn serve: ${error.message}`));
  server.on('warning', (message) => console.error(`Warning: ${message}`));
  const verbose = verbosityOf(settings);
  if (verbose >= 1) {
    server.on('disconnect', (peer, reason) => {
      if (reason !== 'ended' || verbose >= 2) console.error(`${peer} closed: ${reason}`);
    });
  }
  if (verbose >= 2) server.on('connect', (peer) => console.error(`${peer} opened`));

  const { value: connections, name = '-c' } = settings.get('maxConnections') ?? {};
  warnOfFileLimit(SERVE_OPTIONS.maxConnections.check(connections, name, () => 0));
  const where = server.addresses.map((address) => textOf(address) + remarkOn(address, server)).join(' and ');
  const asks = asksForPasswords(settings);
  const away = server.addresses.filter(
    (address) => 'host' in address && !isLoopback(address.host) && !(asks && address.tls),
  );
  const loopbackOnly = !settings.has('host') && server.addresses.some((address) => 'host' in address);
  const note = loopbackOnly ? ' (this machine only; -l ADDRESS listens elsewhere)' : '';
  console.log(`Listening on ${where}${note}`);
  if (away.length > 0) {
    const open = asks ? 'passwords are sent there as they are: -Z encrypts' : 'no client is asked for a password';
    console.error(`Warning: ${away.map(textOf).join(' and ')} can be reached from elsewhere, and ${open}`);
  }
  if (settings.get('testCommands')?.value === true)
    console.error('Warning: test commands are on; any client can stop others and move the clock');
  const threads = settings.get('threads');
  if (threads !== undefined && settings.get('front')?.value === 'node' && Number(threads.value) > 1) {
    console.error(`Warning: ${threads.name} ${threads.value}: with --front node one thread serves all connections`);
  }
  if (/^(start|npx)$/.test(process.env['npm_lifecycle_event'] ?? '')) suggest(server.addresses, directoryOf(settings));
}

function textOf(address: ServerAddress): string {
  if ('path' in address) return address.path;
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/** Of an address whose level was given with it. */
const LEVEL_TEXTS: Readonly<Record<AckLevel, string>> = {
  memory: 'its replies do not wait',
  logged: 'its replies wait for the log',
  stored: 'its replies wait for the database',
};

function remarkOn(address: ServerAddress, server: MemcachedServer): string {
  const remarks = [
    ...('tls' in address ? ['TLS'] : []),
    ...('udp' in address ? ['UDP'] : []),
    ...(address.ack === server.ack ? [] : [LEVEL_TEXTS[address.ack]]),
  ];
  return remarks.length === 0 ? '' : ` (${remarks.join(', ')})`;
}

/** Commands to try. The first needs nothing but Node, which is what has just been started. */
function suggest(addresses: readonly ServerAddress[], directory: string | undefined): void {
  const tcp = addresses.find((address) => 'port' in address && address.tls === undefined && address.udp === undefined);
  if (tcp === undefined || !('port' in tcp)) return;
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

/** Arguments without those that they begin with. */
function without(first: readonly string[], args: readonly string[]): readonly string[] {
  return first.every((each, i) => args[i] === each) ? args.slice(first.length) : args;
}

/** The command that started this, `npm start` or npx, with its arguments. */
function startCommand(): string {
  const given = process.argv.slice(process.argv.indexOf('serve') + 1);
  if (process.env['npm_lifecycle_event'] === 'npx')
    return ['npx cairn-cache serve', ...shownArguments(given)].join(' ');
  // scripts/lib/start.mjs puts the directory and its database in front.
  const own = shownArguments(without(['--store', START_STORE], without(['--data', START_DIRECTORY], given)));
  return own.length === 0 ? 'npm start' : `npm start -- ${own.join(' ')}`;
}
