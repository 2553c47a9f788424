// PostgreSQL as a primary and an asynchronous standby behind one address, that of a proxy. The standby gets the log
// through another proxy, which is cut while the primary goes on: later commits are lost when the primary ends and the
// standby is promoted.

import { setTimeout } from 'node:timers/promises';
import type { Past } from '../../src/torture/failovers.ts';
import { CuttingProxy, POSTGRES_WIRE } from './cutting-proxy.ts';
import { PostgresServer } from './postgres.ts';

export class PostgresPair implements Past {
  readonly #proxy: CuttingProxy;
  readonly #logProxy: CuttingProxy;
  #primary: PostgresServer;
  #standby: PostgresServer | undefined;

  private constructor(primary: PostgresServer, proxy: CuttingProxy, logProxy: CuttingProxy) {
    this.#primary = primary;
    this.#proxy = proxy;
    this.#logProxy = logProxy;
  }

  static async start(): Promise<PostgresPair> {
    const primary = await PostgresServer.start();
    const proxies = [0, 1].map(() => CuttingProxy.start(primary.socket, POSTGRES_WIRE));
    const [proxy, logProxy] = await Promise.all(proxies);
    return new PostgresPair(primary, proxy!, logProxy!);
  }

  /** Leads to the primary, whichever of the two that is. */
  get url(): string {
    return this.#primary.url(this.#proxy.port);
  }

  /** The standby gets everything so far, and nothing more. */
  async remember(): Promise<void> {
    this.#logProxy.isDown = false;
    this.#standby ??= await PostgresServer.standbyOf(this.#primary, this.#logProxy.port);
    const [end] = await this.#primary.query('SELECT pg_current_wal_lsn()::text AS position');
    const isThere = `SELECT pg_last_wal_replay_lsn() >= '${String(end!['position'])}'::pg_lsn AS there`;
    while ((await this.#standby.query(isThere))[0]!['there'] !== true) await setTimeout(20);
    this.#logProxy.isDown = true;
    this.#logProxy.cutAll();
  }

  /** Kills the primary, and promotes the standby. */
  async goBack(): Promise<number> {
    const standby = this.#standby!;
    const before = await effectsIn(this.#primary);
    await this.#primary.stop();
    await standby.query('SELECT pg_promote()');
    this.#proxy.upstream = standby.socket;
    this.#proxy.cutAll();
    this.#logProxy.upstream = standby.socket;
    this.#primary = standby;
    this.#standby = undefined;
    return before - (await effectsIn(standby));
  }

  async stop(): Promise<void> {
    await this.#proxy.stop();
    await this.#logProxy.stop();
    await this.#standby?.stop();
    await this.#primary.stop();
  }
}

// A trigger of the torture notes them.
async function effectsIn(server: PostgresServer): Promise<number> {
  const [row] = await server.query('SELECT count(*) AS count FROM cairn_torture.effects');
  return Number(row!['count']);
}
