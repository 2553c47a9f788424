/**
 * `cairn serve`: a cache of its own behind memcached's port. Options have memcached's short and long names and mean the
 * same; what differs is said in their descriptions.
 */
import { Command, InvalidArgumentError } from 'commander';
import type { Cache, MemcachedServer, ServeOptions, ServerAddress } from '../index.ts';

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
  verbose: number;
  testCommands?: boolean;
}

/** How long clients may take to get their last replies when the server is asked to end. */
const DRAIN = '5s';

/** Makes the subcommand. */
export function serveCommand(): Command {
  return new Command('serve')
    .description('serve a cache to memcached clients (memory only, as memcached does)')
    .helpOption('-h, --help', 'print this help and exit')
    .option('-p, --port <num>', 'TCP port to listen on; -1: any free one, 0: none (default: 11211)', portNumber)
    .option(
      '-l, --listen <addr>',
      'interface to listen on, also several and with ports: 10.0.0.5,[::1]:11212 (default: loopback only; memcached: all)',
      addresses,
    )
    .option('-s, --unix-socket <file>', 'unix socket to listen on (disables TCP unless -p or -l is given)')
    .option('-a, --unix-mask <mask>', 'access mask of the unix socket, in octal (default: 700)', octal)
    .option(
      '-m, --memory-limit <num>',
      'memory in megabytes, all included; or a size such as 2gb, or 25% of the memory here',
      '64',
    )
    .option('-c, --conn-limit <num>', 'max simultaneous connections', wholeNumber(1, 1_000_000), 1024)
    .option(
      '-t, --threads <num>',
      'threads to use (connections are served by one in this version)',
      wholeNumber(1, 1024),
      1,
    )
    .option('-I, --max-item-size <num>', 'max item size, key and header included (min: 1k, max: 1024m)', '1m')
    .option('-b, --listen-backlog <num>', 'connections that the system queues', wholeNumber(1, 65_535), 1024)
    .option('-o, --extended <list>', 'extended options, comma separated: idle_timeout=<seconds>', extended)
    .option(
      '-v, --verbose',
      'say which connections are refused or dropped; -vv: which come and go',
      (_, count: number) => count + 1,
      0,
    )
    .option('--test-commands', 'answer debugtime, debugpark and their like; never where clients are not tests')
    .action(async (flags: ServeFlags) => {
      process.exitCode = await run(flags);
    });
}

// ---- options ----

function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const number = Number(text);
    if (!/^\d+$/.test(text) || number < min || number > max) {
      throw new InvalidArgumentError(`Expected a whole number from ${min} to ${max}.`);
    }
    return number;
  };
}

function portNumber(text: string): number {
  return text === '-1' ? -1 : wholeNumber(0, 65_535)(text);
}

function addresses(text: string, before: string[] = []): string[] {
  const hosts = text.split(',').map((host) => host.trim());
  if (hosts.includes('')) throw new InvalidArgumentError('Expected addresses with commas between them.');
  return [...before, ...hosts];
}

function octal(text: string): number {
  if (!/^[0-7]{1,4}$/.test(text)) throw new InvalidArgumentError('Expected an octal number such as 700.');
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

/** memcached's sizes are whole megabytes; ours may have a unit. */
function memorySize(text: string): string {
  return /^\d+$/.test(text) ? `${text}mb` : text;
}

/** memcached's item sizes are bytes, or have a unit. */
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
};

function explain(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const message = error.message.replace(/^Expected (\w+)/, (all, name: string) =>
    FLAG_NAMES[name] === undefined ? all : `Expected ${FLAG_NAMES[name]}`,
  );
  const cause = error.cause as NodeJS.ErrnoException | undefined;
  if (cause?.code === 'EADDRINUSE') return `${message}. Is another server running there? -p PORT takes another port`;
  return message;
}

/** Serves until a signal comes. Resolves to the exit code. */
async function run(flags: ServeFlags): Promise<number> {
  if (flags.port === 0 && flags.unixSocket === undefined) {
    console.error('cairn serve: Expected -p to be a port where no -s is given, got 0, which listens nowhere');
    return 1;
  }
  let server: MemcachedServer;
  let cache: Cache | undefined;
  try {
    // Here, because it is what fails where the addon is missing.
    const { Cache, serve } = await import('../index.ts');
    const options = serveOptions(flags);
    cache = new Cache({ maxMemory: memorySize(flags.memoryLimit), ...largeValues(flags.maxItemSize) });
    server = await serve(cache, options);
  } catch (error) {
    cache?.close();
    console.error(`cairn serve: ${explain(error)}`);
    return 1;
  }
  announce(server, flags);
  await signalled(server);
  cache.close();
  return 0;
}

/** Values up to 1 MiB fit any cache; larger ones have to be allowed for. */
function largeValues(itemSize: string): { maxValueBytes?: number | string } {
  return /^1m(i?b)?$/i.test(itemSize) ? {} : { maxValueBytes: itemBytes(itemSize) };
}

/** Resolves when a signal has come and the server is closed. A second signal does not wait for clients. */
function signalled(server: MemcachedServer): Promise<void> {
  return new Promise((resolve) => {
    server.once('close', resolve);
    let signals = 0;
    const end = (): void => {
      if (signals++ === 0) void server.close({ timeout: DRAIN });
      else server.destroy();
    };
    process.on('SIGINT', end);
    process.on('SIGTERM', end);
    server.once('close', () => {
      process.off('SIGINT', end);
      process.off('SIGTERM', end);
    });
  });
}

// ---- what is printed ----

function announce(server: MemcachedServer, flags: ServeFlags): void {
  server.on('error', (error) => console.error(`cairn serve: ${error.message}`));
  if (flags.verbose >= 1) {
    server.on('disconnect', (peer, reason) => {
      if (reason !== 'ended' || flags.verbose >= 2) console.error(`${peer} closed: ${reason}`);
    });
  }
  if (flags.verbose >= 2) server.on('connect', (peer) => console.error(`${peer} opened`));

  const where = server.addresses.map(textOf).join(' and ');
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
  if (process.env['npm_lifecycle_event'] === 'start') suggest(server.addresses);
}

function textOf(address: ServerAddress): string {
  if ('path' in address) return address.path;
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

function isLoopback(host: string): boolean {
  return /^127\.|^::1$|^::ffff:127\./.test(host);
}

function suggest(addresses: readonly ServerAddress[]): void {
  const tcp = addresses.find((address) => 'port' in address);
  if (tcp === undefined) return;
  const host = tcp.host === '0.0.0.0' || tcp.host === '::' ? '127.0.0.1' : tcp.host;
  const { port } = tcp;
  console.log(`
Try, in another terminal:
  printf 'set greeting 0 0 5\\r\\nhello\\r\\nget greeting\\r\\nquit\\r\\n' | nc ${host} ${port}
  node -e "require('net').connect(${port}, '${host}').on('connect', function () { this.write('stats\\r\\nquit\\r\\n') }).pipe(process.stdout)"
  python3 -c "from pymemcache.client.base import Client; c = Client(('${host}', ${port})); c.set('k', 'v'); print(c.get('k'))"

Ctrl-C ends it.`);
}
