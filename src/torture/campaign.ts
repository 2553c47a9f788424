/**
 * One directory and its database under fire. Life after life `cairn serve` writes the log back, is loaded by clients
 * that know their own keys, and is killed at a random moment, while the database is stopped, started and cut off from
 * it. After each kill every key must be what was acknowledged, or of a request without a reply one of two. At the end
 * the database is left in peace: its rows must be the entries, and no change may have had its effect twice.
 */

import { Client } from './client.ts';
import type { FireDatabase } from './database.ts';
import { Failovers } from './failovers.ts';
import { Random } from './random.ts';
import { ServerProcess } from './server-process.ts';
import { Session } from './session.ts';

export interface WriteBackOptions {
  readonly seed: number;
  /** Kills; and the campaign ends when the time is over. */
  readonly rounds: number;
  readonly budgetMs: number;
  /** How long the database may take to get everything when it is left in peace. */
  readonly peaceMs: number;
  /** An empty folder. */
  readonly folder: string;
  /** The command `cairn-cache`, as a file of JavaScript. */
  readonly cliFile: string;
  readonly database: FireDatabase;
  /** The database goes back to earlier states, by at most this time; 0: it does not. */
  readonly backMs: number;
  readonly onRound?: (line: string) => void;
}

export interface WriteBackResult {
  rounds: number;
  kills: number;
  /** Faults of the database, by name. */
  readonly faults: Map<string, number>;
  acknowledged: number;
  unknown: number;
  refused: number;
  /** Acknowledged values that are not there any more, in the cache or in a row, each with what is there instead. */
  readonly lost: string[];
  /** Values that were read in place of the last acknowledged one. */
  readonly stale: string[];
  /** Effects that a change has had more than once. */
  readonly duplicated: string[];
  /** Times that the database went back, and effects that this took. */
  failovers: number;
  taken: number;
  /** Rows that were compared, and effects. */
  rows: number;
  effects: number;
}

const SESSIONS = 6;
const LIFE_MS_MAX = 1500;

export class WriteBackCampaign {
  readonly #options: WriteBackOptions;
  readonly #random: Random;
  readonly #sessions = Array.from({ length: SESSIONS }, (_, i) => new Session(i));
  readonly #result: WriteBackResult = {
    ...{ rounds: 0, kills: 0, faults: new Map(), acknowledged: 0, unknown: 0, refused: 0 },
    ...{ lost: [], stale: [], duplicated: [], failovers: 0, taken: 0, rows: 0, effects: 0 },
  };

  readonly #failovers: Failovers;

  constructor(options: WriteBackOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
    const { backMs, database } = options;
    this.#failovers = new Failovers({ past: database.past, random: new Random(this.#random.bits()), backMs });
  }

  async run(): Promise<WriteBackResult> {
    const { rounds, budgetMs } = this.#options;
    const endMs = performance.now() + budgetMs;
    await this.#prepare();
    const stop = new AbortController();
    const failing = this.#options.backMs === 0 ? undefined : this.#failovers.run(stop.signal);
    try {
      for (let round = 0; round < rounds && performance.now() < endMs; round++) await this.#live(round);
    } finally {
      stop.abort();
      await failing;
    }
    await this.#rest();
    this.#result.failovers = this.#failovers.times;
    this.#result.taken = this.#failovers.effectsTaken;
    for (const { acknowledged, unknown, refused, stale } of this.#sessions) {
      this.#result.acknowledged += acknowledged;
      this.#result.unknown += unknown;
      this.#result.refused += refused;
      this.#result.stale.push(...stale);
    }
    return this.#result;
  }

  // The tables and a cursor are there before anything can happen to them: without one it is another database.
  async #prepare(): Promise<void> {
    const target = this.#start();
    const client = await Client.open(await target.ready());
    await this.#options.database.watch();
    await client.ask('set first 0 0 1\r\n1');
    client.close();
    await target.stop('signal');
  }

  #start(): ServerProcess {
    const { cliFile, database, folder } = this.#options;
    const random = this.#random;
    const settings = [
      ...['--data', folder, '--store', database.store],
      ...['--sync', random.pick(['always', 'always', '10ms', 'none'])],
      ...['--write-delay', random.pick(['0', '5ms', '50ms', '300ms'])],
      ...['--write-rows', random.pick(['1', '10', '1000'])],
      ...['--segment-size', random.pick(['1mb', '4mb'])],
      // In the smallest one not all entries have room: what is not in the database comes from the log.
      ...['-m', random.pick(['64', '4', '4'])],
    ];
    return new ServerProcess({
      command: process.execPath,
      args: [cliFile, 'serve', '-l', '127.0.0.1', '-p', '-1', ...settings],
      environment: database.environment,
    });
  }

  async #live(round: number): Promise<void> {
    const result = this.#result;
    const random = this.#random;
    const faults = this.#faults();
    const target = this.#start();
    result.rounds++;
    const end = random.pick(['kill', 'kill', 'kill', 'kill', 'kill-early', 'stop'] as const);
    if (end === 'kill-early') {
      await sleep(random.below(400));
      await target.kill();
      result.kills++;
    } else {
      const port = await target.ready();
      await this.#settle(port);
      const stop = new AbortController();
      const loads = this.#sessions.map(async (session) => {
        const client = await Client.open(port);
        await session.load(client, random, stop.signal);
        client.close();
      });
      await sleep(50 + random.below(LIFE_MS_MAX));
      if (end === 'kill') {
        await target.kill();
        result.kills++;
      } else {
        stop.abort();
      }
      await Promise.all(loads);
      if (end === 'stop') {
        const code = await target.stop('signal');
        if (code !== 0) throw new Error(`It ended with ${code}:\n${target.output}`);
      }
    }
    if (target.diedByItself) throw new Error(`It died by itself:\n${target.output}`);
    this.#options.onRound?.(`round ${round}: ${end}${faults.names.map((name) => `, ${name}`).join('')}`);
    await faults.over;
  }

  // At random moments of a life.
  #faults(): { names: readonly string[]; over: Promise<unknown> } {
    const { faults } = this.#options.database;
    const chosen = faults.filter(() => this.#random.below(3) === 0);
    const over = chosen.map(async (fault) => {
      await sleep(this.#random.below(LIFE_MS_MAX));
      await fault.run();
      this.#result.faults.set(fault.name, (this.#result.faults.get(fault.name) ?? 0) + 1);
    });
    return { names: chosen.map(({ name }) => name), over: Promise.all(over) };
  }

  async #settle(port: number): Promise<void> {
    const client = await Client.open(port);
    for (const session of this.#sessions) this.#result.lost.push(...(await session.settle(client)));
    client.close();
  }

  // Nothing more happens: everything must arrive.
  async #rest(): Promise<void> {
    const { backMs, database } = this.#options;
    const target = this.#start();
    const port = await target.ready();
    await this.#settle(port);
    await this.#arrive();
    if (backMs > 0) await this.#goBackAtRest(port);
    const code = await target.stop('signal');
    if (code !== 0) throw new Error(`It ended with ${code}:\n${target.output}`);
    const effects = await database.effects();
    const seen = new Set<string>();
    for (const effect of effects) {
      if (seen.has(effect)) this.#result.duplicated.push(effect);
      seen.add(effect);
    }
    this.#result.effects = effects.length;
  }

  // Compares the rows until they are right, or the time is over.
  async #arrive(): Promise<void> {
    const endMs = performance.now() + this.#options.peaceMs;
    for (;;) {
      const rows = await this.#options.database.rows();
      const wrong = this.#sessions.flatMap((session) => session.compare(rows));
      if (wrong.length === 0 || performance.now() >= endMs) {
        this.#result.lost.push(...wrong);
        this.#result.rows = rows.size;
        return;
      }
      await sleep(200);
    }
  }

  // Once more, when it is certain that it takes something, and when only a look of the writer finds it.
  async #goBackAtRest(port: number): Promise<void> {
    await this.#options.database.past.remember();
    const client = await Client.open(port);
    const stop = new AbortController();
    const loading = this.#sessions[0]!.load(client, this.#random, stop.signal);
    await sleep(300);
    stop.abort();
    await loading;
    client.close();
    await this.#arrive();
    await this.#failovers.goBack();
    await this.#arrive();
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
