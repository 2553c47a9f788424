/** Listening with node:net on addresses and unix sockets, and the errors if that fails. */
import { chmodSync, existsSync, lstatSync, unlinkSync } from 'node:fs';
import { connect, createServer, type Server } from 'node:net';
import { dirname } from 'node:path';
import { isMainThread } from 'node:worker_threads';
import { CairnError } from '../errors.ts';
import type { ServerAddress } from './front.ts';
import type { Listener } from './listeners.ts';

export interface ListenOptions {
  readonly backlog: number;
  /** Permissions of a unix socket. */
  readonly pathMode: number;
}

/**
 * Resolves if all of these addresses can be listened on now; otherwise rejects as listening would. It listens on each
 * for a moment; a client that connects then is disconnected.
 */
export async function probe(listeners: readonly Listener[], options: ListenOptions): Promise<void> {
  const servers: Server[] = [];
  try {
    for (const listener of listeners) {
      const server = createServer((socket) => socket.destroy());
      if (await listen(server, listener, 'path' in listener ? 0 : listener.port, options)) servers.push(server);
    }
  } finally {
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  }
}

/** The port for a listener: both loopback addresses get the same one, also if any free port was asked for. */
export function portFor(listener: Listener, before: readonly ServerAddress[]): number {
  if ('path' in listener) return 0;
  if (listener.port !== 0 || !listener.optional) return listener.port;
  const [first] = before;
  return first !== undefined && 'port' in first ? first.port : 0;
}

/** Listens. False: the machine lacks that address, which is optional. Rejects with `ERR_LISTEN`. */
export async function listen(
  server: Server,
  listener: Listener,
  port: number,
  options: ListenOptions,
): Promise<boolean> {
  if ('path' in listener) await removeStaleSocket(listener.path);
  // On Windows the path names a pipe, which has no such permissions.
  const hasMode = 'path' in listener && process.platform !== 'win32';
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      const where = 'path' in listener ? { path: listener.path } : { host: listener.host, port, ipv6Only: true };
      const listen = () => server.listen({ ...where, backlog: options.backlog, exclusive: true }, resolve);
      if (hasMode && isMainThread) withMode(options.pathMode, listen);
      else listen();
    });
    server.removeAllListeners('error');
    if (hasMode && !isMainThread) chmodSync(listener.path, options.pathMode);
    return true;
  } catch (cause) {
    server.close();
    if ('host' in listener && listener.optional && isMissing(cause as NodeJS.ErrnoException)) return false;
    throw listenError(listener, cause as NodeJS.ErrnoException);
  }
}

// The socket file, which is made while listen() runs, has its mode from the start: between listening and a chmod,
// others could connect. The mask is the process's, and other threads than the main one may not set it: they are left
// the chmod.
function withMode(mode: number, listen: () => void): void {
  const before = process.umask(~mode & 0o777);
  try {
    listen();
  } finally {
    process.umask(before);
  }
}

/** The machine has no such address: no error where it is optional. */
export function isMissing({ code }: NodeJS.ErrnoException): boolean {
  return code === 'EADDRNOTAVAIL' || code === 'EAFNOSUPPORT';
}

/** One end of a connection, as memcached has it in `stats conns`: `tcp:127.0.0.1:11211`, `tcp6:[::1]:11211`. */
export function endName(transport: 'tcp' | 'udp', host = '', port = 0): string {
  return host.includes(':') ? `${transport}6:[${host}]:${port}` : `${transport}:${host}:${port}`;
}

/** The error of an address that cannot be listened on. */
export function listenError(listener: Listener, cause: NodeJS.ErrnoException): CairnError {
  const where = 'path' in listener ? listener.path : `${listener.host}:${listener.port}`;
  const why: Record<string, string> = {
    EADDRINUSE: 'it is in use',
    EACCES: 'it is not permitted',
    EADDRNOTAVAIL: 'this machine does not have that address',
    ENOTFOUND: 'there is no such name',
    ENOENT: 'its folder does not exist',
    ENOTDIR: 'a part of its path is no folder',
  };
  // For a missing folder, libuv reports EACCES.
  const isFile = 'path' in listener && process.platform !== 'win32';
  const isAstray = isFile && !existsSync(dirname(listener.path));
  const inTheWay = isFile && cause.code === 'EADDRINUSE' ? whatIsAt(listener.path) : undefined;
  const reason = inTheWay ?? (isAstray ? why['ENOENT'] : why[cause.code ?? '']) ?? cause.message;
  return new CairnError('ERR_LISTEN', `Cannot listen on ${where}: ${reason}`, { cause });
}

// What prevents a socket at this path; undefined: a socket on which a process listens.
function whatIsAt(path: string): string | undefined {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats === undefined || stats.isSocket()) return undefined;
  if (stats.isDirectory()) return 'a directory is in the way';
  if (!stats.isSymbolicLink()) return 'a file that is no socket is in the way';
  return existsSync(path) ? 'a symbolic link is in the way' : 'a symbolic link to nothing is in the way';
}

/** A socket file without a listening process was left by an earlier process. Any other file is not removed. */
export async function removeStaleSocket(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  if (lstatSync(path, { throwIfNoEntry: false })?.isSocket() !== true) return;
  const dead = await new Promise<boolean>((resolve) => {
    const probe = connect({ path }, () => {
      probe.destroy();
      resolve(false);
    });
    probe.on('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'));
  });
  if (dead) unlinkSync(path);
}
