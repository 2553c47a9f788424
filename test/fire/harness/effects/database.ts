// The databases that effects are counted in.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeBackend } from '../../../../src/backend/index.ts';
import { readLmdbHistory } from '../../../support/lmdb-history.ts';
import { PostgresServer } from '../../../support/postgres.ts';
import { FOREIGN, HISTORY_PREFIX } from './client.ts';

/** What the database does wrong, to show that it is found: of one counter, and of one key with history. */
export type Mistake = 'forgets' | 'repeats' | '';

export interface EffectsDatabase {
  /** What `--store` is. */
  readonly store: string;
  /** Its connections can be cut, and another writer adds to its rows. */
  readonly isServer: boolean;
  /** A mistake is planted. */
  readonly isWrong: boolean;
  /** Called when the tables are there. */
  watch(): Promise<void>;
  /** The numbers of rows, by key. */
  numbers(keys: readonly string[]): Promise<ReadonlyMap<string, bigint>>;
  /** Of each client how often each number is in the history. */
  history(): Promise<ReadonlyMap<number, ReadonlyMap<number, number>>>;
  /** Cuts the connections of the cache, in the middle of a transaction or not. */
  cut(): Promise<void>;
  /** Another writer: adds {@link FOREIGN} to random ones of the rows until the signal comes; returns how often. */
  add(keys: readonly string[], pick: () => string, signal: AbortSignal): Promise<ReadonlyMap<string, number>>;
  end(): Promise<void>;
}

function byClient(
  found: Iterable<readonly [client: number, number: number, count: number]>,
): ReadonlyMap<number, ReadonlyMap<number, number>> {
  const all = new Map<number, Map<number, number>>();
  for (const [client, number, count] of found) {
    const its = all.get(client) ?? new Map<number, number>();
    all.set(client, its.set(number, (its.get(number) ?? 0) + count));
  }
  return all;
}

export class PostgresEffects implements EffectsDatabase {
  readonly store: string;
  readonly isServer = true;
  readonly isWrong: boolean;
  readonly #server: PostgresServer;
  readonly #mistake: Mistake;

  private constructor(server: PostgresServer, mistake: Mistake) {
    this.#server = server;
    this.#mistake = mistake;
    this.isWrong = mistake !== '';
    this.store = server.url();
  }

  static async start(mistake: Mistake): Promise<PostgresEffects> {
    return new PostgresEffects(await PostgresServer.start(), mistake);
  }

  async watch(): Promise<void> {
    if (this.#mistake === '') return;
    const forgets = this.#mistake === 'forgets';
    const count = forgets
      ? 'NEW.value := OLD.value;'
      : "NEW.value := convert_to((encode(NEW.value, 'escape')::numeric + 1)::text, 'UTF8');";
    const again = `INSERT INTO cairn_history SELECT NEW.key, -NEW.version, NEW.kind, NEW.value, NEW.codec,
      NEW.client_flags, NEW.expires_ms, NEW.long_key, NEW.logged_at WHERE NEW.version > 0;`;
    await this.#server.query(`
      CREATE FUNCTION miscount() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN ${count} RETURN NEW; END $$;
      CREATE TRIGGER miscount BEFORE UPDATE ON cairn_entries FOR EACH ROW
        WHEN (NEW.key = 'n:0:0' AND NEW.version <> OLD.version) EXECUTE FUNCTION miscount();
      CREATE FUNCTION miskeep() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN ${forgets ? 'RETURN NULL;' : `${again} RETURN NEW;`} END $$;
      CREATE TRIGGER miskeep BEFORE INSERT ON cairn_history FOR EACH ROW
        WHEN (NEW.key = 'h:0:1') EXECUTE FUNCTION miskeep()`);
  }

  async numbers(): Promise<ReadonlyMap<string, bigint>> {
    const rows = await this.#server.query(`SELECT encode(key, 'escape') AS key, encode(value, 'escape') AS value
      FROM cairn_entries WHERE encode(key, 'escape') LIKE 'n:%'`);
    return new Map(rows.map(({ key, value }) => [String(key), BigInt(String(value))]));
  }

  async history(): Promise<ReadonlyMap<number, ReadonlyMap<number, number>>> {
    const rows = await this.#server.query(`SELECT split_part(encode(key, 'escape'), ':', 2)::int AS client,
      encode(value, 'escape')::int AS number, count(*)::int AS count FROM cairn_history
      WHERE encode(key, 'escape') LIKE '${HISTORY_PREFIX}%' GROUP BY 1, 2`);
    return byClient(rows.map(({ client, number, count }) => [Number(client), Number(number), Number(count)]));
  }

  async cut(): Promise<void> {
    await this.#server.query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cairn-cache'",
    );
  }

  async add(_keys: readonly string[], pick: () => string, signal: AbortSignal): Promise<ReadonlyMap<string, number>> {
    const counts = new Map<string, number>();
    const client = await this.#server.connect();
    try {
      while (!signal.aborted) {
        const key = pick();
        const { rowCount } = (await client.query(`UPDATE cairn_entries
          SET value = convert_to((encode(value, 'escape')::numeric + ${FOREIGN})::text, 'UTF8')
          WHERE key = '${key}'`)) as { rowCount: number };
        if (rowCount === 1) counts.set(key, (counts.get(key) ?? 0) + 1);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    } finally {
      await client.end();
    }
    return counts;
  }

  async end(): Promise<void> {
    await this.#server.stop();
  }
}

export class LmdbEffects implements EffectsDatabase {
  readonly store: string;
  readonly isServer = false;
  readonly isWrong = false;
  readonly #folder = mkdtempSync(join(tmpdir(), 'cairn-effects-'));
  readonly #path: string = join(this.#folder, 'rows.lmdb');

  constructor() {
    this.store = `lmdb:${this.#path}`;
  }

  async watch(): Promise<void> {}

  async numbers(keys: readonly string[]): Promise<ReadonlyMap<string, bigint>> {
    const backend = await makeBackend(this.store);
    try {
      await backend.open();
      const { rows } = await backend.load(keys.map((key) => Buffer.from(key)));
      return new Map(keys.map((key, i) => [key, BigInt(rows[i]?.value.toString() ?? 0)]));
    } finally {
      await backend.close();
    }
  }

  async history(): Promise<ReadonlyMap<number, ReadonlyMap<number, number>>> {
    const rows = await readLmdbHistory(this.#path);
    return byClient(rows.map(({ key, value }) => [Number(key.toString().split(':')[1]), Number(value), 1]));
  }

  async cut(): Promise<void> {}

  async add(): Promise<ReadonlyMap<string, number>> {
    return new Map();
  }

  async end(): Promise<void> {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
