/** PostgreSQL, in a schema that is made for it. A trigger notes every effect on a row of the cache's table. */
import { loadTools, makeBackend } from '../backend/index.ts';
import type { DatabaseFault, Effects, TortureDatabase, TortureRow } from './database.ts';
import type { Past } from './failovers.ts';
import { PostgresPast } from './postgres-past.ts';
import { scanRows } from './scanned.ts';
import { sleep } from './sleep.ts';

/** What is used of the package pg. */
interface Client {
  on(event: 'error', listener: (error: Error) => void): unknown;
  connect(): Promise<void>;
  query(text: string): Promise<{ rows: Record<string, unknown>[] } | { rows: Record<string, unknown>[] }[]>;
  end(): Promise<void>;
}
type ClientConstructor = new (config: object) => Client;
type Query = (text: string) => Promise<Record<string, unknown>[]>;

export interface PostgresStoreOptions {
  /** A URL as the option `store` takes it. Its parameters `schema` and `prefix` are not used. */
  readonly address: string;
  /** Of the schema, which does not exist. */
  readonly schema: string;
  /** More that can be done to it. */
  readonly faults?: readonly DatabaseFault[] | undefined;
  /** A mistake of the way back, to show that it is found. */
  readonly leavesCursors?: boolean | undefined;
}

export class PostgresStore implements TortureDatabase {
  readonly name: string;
  readonly level = 'transactional';
  readonly environment: Readonly<Record<string, string>>;
  readonly faults: readonly DatabaseFault[];
  readonly past: Past;
  readonly #query: Query;
  readonly #schema: string;
  readonly #store: string;

  private constructor(
    { schema, faults = [], leavesCursors = false }: PostgresStoreOptions,
    query: Query,
    store: string,
    name: string,
  ) {
    this.name = `${name}, schema ${schema}`;
    this.environment = { CAIRN_STORE: store };
    this.#schema = schema;
    this.#store = store;
    this.#query = query;
    this.past = new PostgresPast({ query, schema, leavesCursors });
    this.faults = [...faults, { name: 'connections cut', run: () => this.#cut() }];
  }

  /** Makes the schema. */
  static async make(options: PostgresStoreOptions): Promise<PostgresStore> {
    const { address, schema } = options;
    // Of the connections of the cache, so that these alone are cut.
    const store = withParameters(address, { schema, application_name: schema });
    const { name } = await makeBackend(store);
    const query = await queryOf(withParameters(address, { application_name: 'cairn-torture' }));
    await query(`
      CREATE SCHEMA ${schema};
      CREATE TABLE ${schema}.effects (number bigserial PRIMARY KEY, effect text NOT NULL);
      CREATE FUNCTION ${schema}.note() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        IF TG_OP = 'DELETE' THEN
          INSERT INTO ${schema}.effects (effect) VALUES ('delete ' || encode(OLD.key, 'escape') || ' ' || OLD.version);
        ELSE
          INSERT INTO ${schema}.effects (effect) VALUES ('write ' || encode(NEW.key, 'escape') || ' ' || NEW.version);
        END IF;
        RETURN NULL;
      END $$`);
    return new PostgresStore(options, query, store, name);
  }

  async watch(): Promise<void> {
    const table = `${this.#schema}.cairn_entries`;
    await this.#query(
      `DROP TRIGGER IF EXISTS note ON ${table};
       CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON ${table} FOR EACH ROW EXECUTE FUNCTION ${this.#schema}.note()`,
    );
  }

  // In the middle of a transaction or not, as it comes.
  async #cut(): Promise<void> {
    for (let i = 0; i < 5; i++) {
      await this.#query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '${this.#schema}'`,
      ).catch(() => {
        // It is stopped meanwhile.
      });
      await sleep(7);
    }
  }

  rows(): Promise<ReadonlyMap<string, TortureRow>> {
    return scanRows(this.#store);
  }

  async effects(): Promise<Effects> {
    const table = `${this.#schema}.effects`;
    const [counted] = await this.#query(`SELECT count(*) AS count FROM ${table}`);
    const repeated = await this.#query(`SELECT effect FROM ${table} GROUP BY effect HAVING count(*) > 1`);
    return { count: Number(counted!['count']), repeated: repeated.map(({ effect }) => String(effect)) };
  }

  async end(keeps: boolean): Promise<void> {
    if (!keeps) await this.#query(`DROP SCHEMA ${this.#schema} CASCADE`);
  }
}

/** The address with parameters of the torture's in place of those that name tables. */
function withParameters(address: string, own: Readonly<Record<string, string>>): string {
  const question = address.indexOf('?');
  const parameters = new URLSearchParams(question < 0 ? '' : address.slice(question + 1));
  for (const name of ['schema', 'prefix']) parameters.delete(name);
  for (const [name, value] of Object.entries(own)) parameters.set(name, value);
  return `${question < 0 ? address : address.slice(0, question)}?${parameters}`;
}

/** Each command has its own connection: the database may have been stopped since the last. */
async function queryOf(connectionString: string): Promise<Query> {
  const { loadDriver } = await loadTools();
  const { Client: constructor } = (await loadDriver('PostgreSQL', 'pg', 'pg@8')) as { Client: ClientConstructor };
  return async (text) => {
    const client = new constructor({ connectionString });
    client.on('error', () => {});
    await client.connect();
    try {
      const result = await client.query(text);
      return (Array.isArray(result) ? result.at(-1)! : result).rows;
    } finally {
      await client.end();
    }
  };
}
