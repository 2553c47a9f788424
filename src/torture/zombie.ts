/**
 * A writer that lives on after another has taken over from it: a server is stopped with its work for the database under
 * way, another one begins on a copy of its directory, and the first one goes on as soon as the other has taken the
 * database over, before that has any change to write. From then on it must change nothing in the database.
 */
import { Client } from './client.ts';
import { PATIENCE_MS, type ServerProcess } from './server-process.ts';
import { sleep } from './sleep.ts';

/** What the keys begin with that only zombies write. */
export const ZOMBIE_PREFIX = 'zombie:';

/** A stopped process may hold a lock of the database that its heir waits for: it runs this long now and then. */
const PULSE_MS = 30;
const PULSE_EVERY_MS = 1000;
const POLL_MS = 50;
/** Enough for nearly every lane to have some. */
const KEYS = 64;

/** The names of the states of all databases. */
const STATE = /^write_back(:.*:|_)state$/;
/** Places in `write_back_state`. */
const WRITING = 1;
const REFUSED = 5;

export class Zombie {
  readonly #server: ServerProcess;
  readonly #number: number;
  readonly #pulses = new AbortController();
  #pulsing: Promise<void> | undefined;

  /** `number`: of this zombie; two of one campaign have different ones. */
  constructor(server: ServerProcess, number: number) {
    this.#server = server;
    this.#number = number;
  }

  /** No client may have a request on its way to it: it would be executed later, in a log that has been left. */
  async freeze(): Promise<void> {
    this.#server.pause();
    // Its directory is copied next: all its threads have stopped.
    while (!this.#server.isPaused) await sleep(POLL_MS);
    this.#pulsing = this.#pulse();
  }

  async #pulse(): Promise<void> {
    const { signal } = this.#pulses;
    for (;;) {
      await sleep(PULSE_EVERY_MS, signal);
      if (signal.aborted) return;
      this.#server.resume();
      await sleep(PULSE_MS, signal);
      this.#server.pause();
    }
  }

  /** Resolves when the heir has taken over, each of its databases. */
  async isSucceededBy(heir: Client): Promise<void> {
    await until(heir, ({ states }) => (states.every((state) => state === WRITING) ? true : undefined));
  }

  /**
   * Goes on, and takes writes of its clients. Resolves to true when it has noticed that another writer has taken over,
   * and to false when it has written to the database instead.
   */
  async revive(): Promise<boolean> {
    this.#pulses.abort();
    await this.#pulsing;
    this.#server.resume();
    const client = await Client.open(await this.#server.ready());
    try {
      const before = await until(client, ({ batches }) => batches);
      await this.#write(client, 'first');
      const isFenced = await until(client, ({ state, behind, batches }) => {
        if (state === REFUSED) return true;
        return behind === 0 && batches > before ? false : undefined;
      });
      await this.#write(client, 'last');
      return isFenced;
    } finally {
      client.close();
    }
  }

  async #write(client: Client, name: string): Promise<void> {
    for (let i = 0; i < KEYS; i++) await client.ask(`set ${ZOMBIE_PREFIX}${this.#number}:${name}${i} 0 0 1\r\n1`);
  }

  async end(): Promise<void> {
    this.#pulses.abort();
    await this.#pulsing;
    await this.#server.kill();
  }
}

interface Stats {
  /** Of the default database, as the numbers below. */
  readonly state: number;
  /** Of all. */
  readonly states: readonly number[];
  readonly behind: number;
  readonly batches: number;
}

async function until<T>(client: Client, answer: (stats: Stats) => T | undefined): Promise<T> {
  const endMs = performance.now() + PATIENCE_MS;
  for (;;) {
    const all = await client.stats('cairn');
    if (all === undefined) throw new Error('The server does not answer any more');
    const of = (name: string): number => Number(all.get(`write_back_${name}`));
    const states = [...all].filter(([name]) => STATE.test(name)).map(([, state]) => Number(state));
    const stats = { state: of('state'), states, behind: of('behind_bytes'), batches: of('batches') };
    const found = answer(stats);
    if (found !== undefined) return found;
    if (performance.now() >= endMs) throw new Error(`A zombie waits in vain: ${JSON.stringify(stats)}`);
    await sleep(POLL_MS);
  }
}
