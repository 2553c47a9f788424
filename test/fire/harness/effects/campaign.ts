// Effects are counted: increments of counters that another program counts in too, and writes of which each is kept as a
// row of history. Life after life a server takes them, carries them to the database, and is killed with kill -9;
// meanwhile its connections to the database are cut. At the end each counter must be the sum of what both have added,
// and each write must be one row.

import { Random } from '../../../../src/torture/random.ts';
import { ServerProcess } from '../../../../src/torture/server-process.ts';
import { sleep } from '../../../../src/torture/sleep.ts';
import { COUNTER_PREFIX, EffectsClient, HISTORY_PREFIX, type Wrong } from './client.ts';
import type { EffectsDatabase } from './database.ts';
import { Pipe } from './pipe.ts';

export interface EffectsOptions {
  readonly seed: number;
  /** How many effects there are to be, at least. */
  readonly effects: number;
  /** What `--sync` is. */
  readonly sync: string;
  /** How many lanes write at a time. */
  readonly lanes: number;
  /** An empty folder. */
  readonly folder: string;
  /** The command `cairn-cache`, as a file of JavaScript. */
  readonly cliFile: string;
  readonly database: EffectsDatabase;
  /** The longest life until a kill. */
  readonly lifeMsMax: number;
  /** How long the database may get nothing more, at the end, before what it lacks counts as lost. */
  readonly peaceMs: number;
  readonly onLife?: (line: string) => void;
}

export interface EffectsResult {
  kills: number;
  /** Of the connections to the database. */
  cuts: number;
  /** Acknowledged, or found in the log after a kill. */
  effects: number;
  acknowledged: number;
  unknown: number;
  /** Of the unknown ones: that had taken effect. */
  recovered: number;
  refused: number;
  /** Of the other writer. */
  foreign: number;
  wrong: readonly Wrong[];
}

const CLIENTS = 6;
/** The longest time between two cuts of the connections to the database. */
const CUT_MS_MAX = 2000;

export class EffectsCampaign {
  readonly #options: EffectsOptions;
  readonly #random: Random;
  readonly #clients: readonly EffectsClient[];
  #kills = 0;
  #cuts = 0;

  constructor(options: EffectsOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#clients = Array.from({ length: CLIENTS }, (_, id) => new EffectsClient(id, !options.database.isWrong));
  }

  async run(): Promise<EffectsResult> {
    const { database } = this.#options;
    await this.#prepare();
    const keys = this.#clients.flatMap(({ counters }) => counters);
    const random = new Random(this.#random.bits());
    const stop = new AbortController();
    const adding = database.add(keys, () => random.pick(keys), stop.signal);
    let foreign: ReadonlyMap<string, number>;
    try {
      while (this.#hasMore()) await this.#live();
    } finally {
      stop.abort();
      foreign = await adding;
    }
    const wrong = await this.#rest(keys, foreign);
    const sum = (count: (client: EffectsClient) => number): number =>
      this.#clients.reduce((total, client) => total + count(client), 0);
    return {
      kills: this.#kills,
      cuts: this.#cuts,
      effects: sum(({ effects }) => effects),
      acknowledged: sum(({ acknowledged }) => acknowledged),
      unknown: sum(({ unknown }) => unknown),
      recovered: sum(({ recovered }) => recovered),
      refused: sum(({ refused }) => refused),
      foreign: [...foreign.values()].reduce((total, count) => total + count, 0),
      wrong: [...this.#clients.flatMap((client) => client.wrong), ...wrong],
    };
  }

  #hasMore(): boolean {
    return this.#clients.reduce((total, { effects }) => total + effects, 0) < this.#options.effects;
  }

  #start(): ServerProcess {
    const { cliFile, database, folder, sync, lanes } = this.#options;
    const random = this.#random;
    const rules = [
      { prefix: COUNTER_PREFIX, counter: true },
      { prefix: HISTORY_PREFIX, coalesce: false },
    ];
    const settings = [
      ...['--data', folder, '--store', database.store, '--sync', sync],
      ...['--write-lanes', String(lanes)],
      ...['--write-delay', random.pick(['0', '5ms', '50ms'])],
      ...['--write-rows', random.pick(['100', '1000', '1000'])],
      ...['-m', random.pick(['64', '16'])],
    ];
    return new ServerProcess({
      command: process.execPath,
      args: [cliFile, 'serve', '-l', '127.0.0.1', '-p', '-1', ...settings],
      environment: { CAIRN_RULES: JSON.stringify(rules) },
    });
  }

  // Counters and tables are there before anything can happen to them.
  async #prepare(): Promise<void> {
    const target = this.#start();
    const pipe = await Pipe.open(await target.ready());
    for (const client of this.#clients) await client.begin(pipe);
    pipe.close();
    await this.#stop(target);
    await this.#options.database.watch();
  }

  async #live(): Promise<void> {
    const random = this.#random;
    const target = this.#start();
    const port = await target.ready();
    await this.#settle(port);
    const before = performance.now();
    const stop = new AbortController();
    const loads = this.#clients.map(async (client) => {
      const pipe = await Pipe.open(port);
      await client.load(pipe, random, stop.signal, () => this.#hasMore());
      pipe.close();
    });
    const loaded = Promise.all(loads);
    const over = Promise.race([loaded, sleep(200 + random.below(this.#options.lifeMsMax))]);
    await Promise.all([over, this.#cutWhile(over)]);
    await target.kill();
    this.#kills++;
    await loaded;
    if (target.diedByItself) throw new Error(`It died by itself:\n${target.output}`);
    const effects = this.#clients.reduce((total, client) => total + client.effects, 0);
    this.#options.onLife?.(
      `life ${this.#kills}: ${Math.round(performance.now() - before)} ms, ${effects} effects so far`,
    );
  }

  // In the middle of what the writer does, so that it does not learn whether its last COMMIT came.
  async #cutWhile(over: Promise<unknown>): Promise<void> {
    let isOver = false;
    void over.then(() => {
      isOver = true;
    });
    while (this.#options.database.isServer) {
      await Promise.race([over, sleep(100 + this.#random.below(CUT_MS_MAX))]);
      if (isOver) return;
      await this.#options.database.cut();
      this.#cuts++;
    }
  }

  async #settle(port: number): Promise<void> {
    const pipe = await Pipe.open(port);
    for (const client of this.#clients) await client.settle(pipe);
    pipe.close();
  }

  // Nothing more happens: everything must arrive.
  async #rest(keys: readonly string[], foreign: ReadonlyMap<string, number>): Promise<readonly Wrong[]> {
    const target = this.#start();
    await this.#settle(await target.ready());
    let wrong: readonly Wrong[] = [];
    let best = Number.POSITIVE_INFINITY;
    for (let endMs = performance.now() + this.#options.peaceMs; ; ) {
      wrong = await this.#judge(keys, foreign);
      const count = wrong.reduce((total, { lost, doubled }) => total + lost + doubled, 0);
      if (count === 0) break;
      if (count < best) endMs = performance.now() + this.#options.peaceMs;
      else if (performance.now() >= endMs) break;
      best = Math.min(best, count);
      await sleep(500);
    }
    await this.#stop(target);
    // Of what came late, too, nothing may be there twice.
    return wrong.length > 0 ? wrong : this.#judge(keys, foreign);
  }

  async #judge(keys: readonly string[], foreign: ReadonlyMap<string, number>): Promise<readonly Wrong[]> {
    const { database } = this.#options;
    const numbers = await database.numbers(keys);
    const history = await database.history();
    return this.#clients.flatMap((client) => [
      ...client.judgeCounters(numbers, foreign),
      ...client.judgeHistory(history.get(client.id) ?? new Map()),
    ]);
  }

  async #stop(target: ServerProcess): Promise<void> {
    const code = await target.stop('signal');
    if (code !== 0) throw new Error(`It ended with ${code}:\n${target.output}`);
  }
}
