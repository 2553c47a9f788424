// A cluster of real nats-servers with JetStream on 127.0.0.1, for tests and benches. Each server has a directory and a
// monitor port, and is killed, paused and started again alone. The servers end with the process that started them.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GuardedProcess } from './guarded-process.mjs';
import { until } from './until.mjs';

/** After these tries to start, taken ports are no coincidence. */
const STARTS_MAX = 5;

class ServerEnded extends Error {}

/**
 * A port that is free now, below those that the system gives to outgoing connections: a server which is down for a
 * while finds it free again.
 */
async function freePort(taken) {
  for (;;) {
    const port = 12_000 + Math.floor(Math.random() * 20_000);
    if (taken.has(port)) continue;
    taken.add(port);
    const probe = createServer();
    const isFree = await new Promise((resolve) => {
      probe.once('error', () => resolve(false)).listen(port, '127.0.0.1', () => resolve(true));
    });
    if (isFree) {
      await new Promise((resolve) => probe.close(resolve));
      return port;
    }
  }
}

/** One server of a cluster. */
export class NatsServer {
  name;
  folder;
  /** The setting `sync_interval` at the next start; undefined: the server's default. */
  sync;
  /** The program at the next start. */
  program;
  #ports;
  #options;
  #process;
  #isPaused = false;

  constructor({ name, folder, sync, program, ports, ...options }) {
    this.name = name;
    this.folder = folder;
    this.sync = sync;
    this.program = program;
    this.#ports = ports;
    this.#options = options;
  }

  /** Where clients connect to. */
  get address() {
    return `127.0.0.1:${this.#ports.client}`;
  }

  get monitorUrl() {
    return `http://127.0.0.1:${this.#ports.monitor}`;
  }

  get pid() {
    return this.#process.pid;
  }

  get isRunning() {
    return this.#process?.isRunning === true;
  }

  /** Whether it runs and is not paused. */
  get isActive() {
    return this.isRunning && !this.#isPaused;
  }

  /** Starts it, or starts it again with all its data. It need not be ready when this returns. */
  run() {
    const { routes, processors, memoryMiB, storeMiB } = this.#options;
    const sync = this.sync === undefined ? '' : `sync_interval: ${this.sync},`;
    const cluster = `cluster { name: cairn, listen: "127.0.0.1:${this.#ports.route}", routes: [${routes.join(', ')}] }`;
    const file = join(this.folder, 'nats.conf');
    writeFileSync(
      file,
      `server_name: ${this.name}
listen: "${this.address}"
http: "127.0.0.1:${this.#ports.monitor}"
log_file: "${join(this.folder, 'log')}"
jetstream { store_dir: "${this.folder}", ${sync} max_memory_store: 64MB, max_file_store: ${storeMiB}MB }
${routes.length > 1 ? cluster : ''}
`,
    );
    const env = { ...process.env, GOMAXPROCS: String(processors), GOMEMLIMIT: `${memoryMiB}MiB` };
    // What a check preloads into our programs is not for this one.
    delete env.LD_PRELOAD;
    this.#isPaused = false;
    this.#process = new GuardedProcess([this.program, '-c', file], { env });
  }

  /** Resolves when it serves, and has caught up with the others. */
  async isReady() {
    const hasEnded = await until(async () => {
      if (!this.isRunning) return true;
      return (await this.ask('/healthz')).status === 'ok' ? false : undefined;
    }, `${this.name} to be ready`);
    if (hasEnded) throw new ServerEnded(`Expected ${this.name} to run, but it has ended:\n${this.#lastWords}`);
  }

  get #lastWords() {
    try {
      return readFileSync(join(this.folder, 'log'), 'utf8').trim().split('\n').slice(-5).join('\n');
    } catch {
      return 'without a word';
    }
  }

  /** The answer of the monitor port, such as that of `/varz`. */
  async ask(path) {
    const answer = await fetch(`${this.monitorUrl}${path}`, { signal: AbortSignal.timeout(2000) });
    return answer.json();
  }

  /** Ends it at once, as a crash does. */
  async kill() {
    await this.#process?.end();
  }

  /** Ends it as an operator does. */
  async stop() {
    await this.#process?.end('SIGTERM');
  }

  /** Resolves when it does nothing any more. It keeps its connections. */
  async pause() {
    this.#isPaused = true;
    await this.#process.pause();
  }

  resume() {
    this.#isPaused = false;
    this.#process.resume();
  }
}

export class NatsCluster {
  servers;
  folder;

  constructor(folder, servers) {
    this.folder = folder;
    this.servers = servers;
  }

  /**
   * Resolves when all its servers are ready. `program`: a nats-server; `parent`: the folder in which it makes its own;
   * `sync`: the setting sync_interval of all servers, undefined for the default; `processors`, `memoryMiB`, `storeMiB`:
   * what each server may use of the machine.
   */
  static async start({ program, parent = tmpdir(), count = 3, ...options }) {
    const sync = 'sync' in options ? options.sync : 'always';
    const { processors = 2, memoryMiB = 256, storeMiB = 2048 } = options;
    for (let attempt = 1; ; attempt++) {
      const folder = mkdtempSync(join(parent, 'cairn-nats-'));
      const taken = new Set();
      const ports = [];
      for (let i = 0; i < count; i++) {
        ports.push({ client: await freePort(taken), monitor: await freePort(taken), route: await freePort(taken) });
      }
      const routes = ports.map(({ route }) => `"nats-route://127.0.0.1:${route}"`);
      const servers = ports.map((own, i) => {
        const place = mkdtempSync(join(folder, `n${i + 1}-`));
        const settings = { routes, processors, memoryMiB, storeMiB };
        return new NatsServer({ name: `n${i + 1}`, folder: place, sync, program, ports: own, ...settings });
      });
      const cluster = new NatsCluster(folder, servers);
      try {
        for (const server of servers) server.run();
        await cluster.isReady();
        return cluster;
      } catch (error) {
        await cluster.end();
        // Another process has taken a port meanwhile.
        if (!(error instanceof ServerEnded) || !/address already in use/.test(error.message) || attempt === STARTS_MAX)
          throw error;
      }
    }
  }

  /** Where clients connect to: all servers. */
  get addresses() {
    return this.servers.map(({ address }) => address);
  }

  /** Resolves when all servers are ready. */
  async isReady() {
    await Promise.all(this.servers.map((server) => server.isReady()));
  }

  /** Resolves to the server that leads a stream of the default account, as soon as one does. */
  leaderOf(stream) {
    return until(async () => {
      const claims = await Promise.allSettled(
        this.servers
          .filter(({ isActive }) => isActive)
          .map(async (server) => {
            const { account_details: accounts = [] } = await server.ask('/jsz?acc=$G&streams=true');
            const details = accounts.flatMap(({ stream_detail: streams = [] }) => streams);
            const leader = details.find(({ name }) => name === stream)?.cluster?.leader;
            return leader === server.name ? server : undefined;
          }),
      );
      return claims.find(({ value }) => value !== undefined)?.value;
    }, `a server to lead the stream ${stream}`);
  }

  /** Ends all servers, also those that are paused, and removes their folders. */
  async end() {
    await Promise.all(this.servers.map((server) => server.kill()));
    rmSync(this.folder, { recursive: true, force: true });
  }
}
