/**
 * One directory and its database under fire. Life after life `cairn serve` writes the log back, is loaded by clients
 * that know their own keys, and is killed at a random moment, while the database is stopped, started and cut off from
 * it. After each kill every key must be what was acknowledged, or of a request without a reply one of two. Now and then
 * a server is not killed but stopped, and goes on when another one has taken over (zombie.ts). At the end the database
 * is left in peace: its rows must be the entries, no change may have had its effect twice, and none of a zombie any.
 */
import { cpSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from './client.ts';
import type { TortureDatabase, TortureRow } from './database.ts';
import { Failovers } from './failovers.ts';
import { Random } from './random.ts';
import { canPause, PATIENCE_MS, ServerProcess } from './server-process.ts';
import { drawSettings, environmentOf } from './server-settings.ts';
import { Session } from './session.ts';
import { sleep } from './sleep.ts';
import { ZOMBIE_PREFIX, Zombie } from './zombie.ts';

export interface WriteBackOptions {
  readonly seed: number;
  /** Kills; and the campaign ends when the time is over. */
  readonly rounds: number;
  readonly budgetMs: number;
  /** How long the database may take to get everything when it is left in peace. */
  readonly peaceMs: number;
  /** An empty folder. */
  readonly folder: string;
  /** The command that serves until its standard input ends, as a file of JavaScript. */
  readonly serverFile: string;
  readonly database: TortureDatabase;
  /** The database goes back to earlier states, by at most this time; 0: it does not. */
  readonly backMs: number;
  /** Ends everything: `run` rejects with its reason. */
  readonly signal?: AbortSignal | undefined;
  readonly onRound?: ((line: string, soFar: WriteBackResult) => void) | undefined;
}

export interface WriteBackResult {
  rounds: number;
  kills: number;
  /** Servers that went on after another had taken over, and noticed it. */
  zombies: number;
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
  /** The number of those, where the level of the database allows them. */
  repeated: number;
  /** Rows that only a server from which another had taken over can have written. */
  readonly foreign: string[];
  /** Times that the database went back, and effects that this took. */
  failovers: number;
  taken: number;
  /** Rows that were compared, and effects. */
  rows: number;
  effects: number;
}

/** Clients at work. */
interface Load {
  /** Resolves when they have their last replies. */
  end(): Promise<void>;
}

const SESSIONS = 6;
const LIFE_MS_MAX = 1500;
/** One life in this number ends as a zombie's, the second first. */
const ZOMBIE_EVERY = 8;
const FIRST_ZOMBIE = 1;
/** A zombie is stopped this long after its last reply, at most, so that the database still lacks something. */
const ZOMBIE_DELAY_MS_MAX = 40;
/** What the database goes back over at the end. */
const CHANGES_AT_REST = 100;

export class WriteBackCampaign {
  readonly #options: WriteBackOptions;
  /** Of the course: what clients draw is theirs, so that a seed repeats the course. */
  readonly #random: Random;
  readonly #clientRandoms: readonly Random[];
  readonly #sessions = Array.from({ length: SESSIONS }, (_, i) => new Session(i));
  readonly #processes = new Set<ServerProcess>();
  /** Of the life under way: ends when the database is as it was. */
  #faulting: Promise<unknown> = Promise.resolve();
  readonly #result: WriteBackResult = {
    ...{ rounds: 0, kills: 0, zombies: 0, faults: new Map(), acknowledged: 0, unknown: 0, refused: 0 },
    ...{ lost: [], stale: [], duplicated: [], foreign: [], repeated: 0, failovers: 0, taken: 0, rows: 0, effects: 0 },
  };
  readonly #failovers: Failovers | undefined;
  /** Of the log, and how many there were. */
  #directory = '';
  #directories = 0;

  constructor(options: WriteBackOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
    const { backMs, database } = options;
    const random = new Random(this.#random.bits());
    this.#clientRandoms = this.#sessions.map(() => new Random(this.#random.bits()));
    if (backMs > 0 && database.past !== undefined)
      this.#failovers = new Failovers({ past: database.past, random, backMs });
  }

  async run(): Promise<WriteBackResult> {
    const { signal } = this.#options;
    const killAll = (): void => {
      for (const each of this.#processes) void each.kill();
    };
    signal?.addEventListener('abort', killAll);
    try {
      await this.#course();
      return this.result;
    } catch (error) {
      signal?.throwIfAborted();
      throw await this.#explained(error as Error);
    } finally {
      signal?.removeEventListener('abort', killAll);
      await this.#faulting;
      await Promise.all([this.#failovers?.stop(), ...Array.from(this.#processes, (each) => each.kill())]);
    }
  }

  // A server that does not answer any more has said why, or ends with a code that does.
  async #explained(error: Error): Promise<Error> {
    const untold = [...this.#processes].filter(({ output }) => output === '' || !error.message.includes(output));
    const accounts = await Promise.all(untold.map((each) => each.account()));
    return new Error([error.message, ...accounts].join('\n'), { cause: error });
  }

  async #course(): Promise<void> {
    const { rounds, budgetMs, onRound } = this.#options;
    const endMs = performance.now() + budgetMs;
    await this.#prepare();
    this.#failovers?.start();
    for (let round = 0; round < rounds && performance.now() < endMs; round++) {
      const line = await this.#live(round);
      onRound?.(`round ${round}: ${line}`, this.result);
    }
    await this.#failovers?.stop();
    await this.#rest();
  }

  /** So far. */
  get result(): WriteBackResult {
    const sum = (count: (session: Session) => number): number =>
      this.#sessions.reduce((total, session) => total + count(session), 0);
    return Object.assign(this.#result, {
      acknowledged: sum(({ acknowledged }) => acknowledged),
      unknown: sum(({ unknown }) => unknown),
      refused: sum(({ refused }) => refused),
      stale: this.#sessions.flatMap(({ stale }) => stale),
      failovers: this.#failovers?.times ?? 0,
      taken: this.#failovers?.effectsTaken ?? 0,
    });
  }

  // The tables and a cursor are there before anything can happen to them: without one it is another database.
  async #prepare(): Promise<void> {
    mkdirSync(this.#nextDirectory());
    const server = this.#start();
    const client = await Client.open(await server.ready());
    await this.#options.database.watch();
    await client.ask('set first 0 0 1\r\n1');
    client.close();
    await this.#end(server);
  }

  #nextDirectory(): string {
    this.#directory = join(this.#options.folder, `log-${this.#directories++}`);
    return this.#directory;
  }

  #start(): ServerProcess {
    const { serverFile, database, signal } = this.#options;
    signal?.throwIfAborted();
    const server = new ServerProcess({
      command: process.execPath,
      args: [serverFile, 'serve', '--data', this.#directory, ...drawSettings(this.#random)],
      environment: environmentOf(database.environment),
      isDetached: true,
    });
    this.#processes.add(server);
    return server;
  }

  async #kill(server: ServerProcess): Promise<void> {
    await server.kill();
    this.#processes.delete(server);
    this.#result.kills++;
  }

  async #end(server: ServerProcess): Promise<void> {
    const code = await server.stop('signal');
    if (code !== 0) throw new Error(`It ended with ${code}:\n${server.output}`);
    this.#processes.delete(server);
  }

  async #live(round: number): Promise<string> {
    const faults = this.#faults(round);
    const server = this.#start();
    this.#result.rounds++;
    const drawn = this.#random.pick(['kill', 'kill', 'kill', 'kill', 'kill-early', 'stop'] as const);
    const end = canPause && round % ZOMBIE_EVERY === FIRST_ZOMBIE ? 'zombie' : drawn;
    if (end === 'kill-early') {
      await sleep(this.#random.below(400));
      await this.#kill(server);
    } else {
      const port = await server.ready();
      await this.#settle(port);
      const load = this.#load(port);
      await sleep(50 + this.#random.below(LIFE_MS_MAX));
      if (end === 'kill') await this.#kill(server);
      await load.end();
      if (end === 'stop') await this.#end(server);
      if (end === 'zombie') await this.#succeed(server);
    }
    if (server.diedByItself) throw new Error(`It died by itself:\n${server.output}`);
    await faults.over;
    return `${end}${faults.names.map((name) => `, ${name}`).join('')}`;
  }

  #load(port: number): Load {
    const stop = new AbortController();
    const over = Promise.all(
      this.#sessions.map(async (session, i) => {
        const client = await Client.open(port);
        await session.load(client, this.#clientRandoms[i]!, stop.signal);
        client.close();
      }),
    );
    over.catch(() => {});
    return {
      end: async () => {
        stop.abort();
        await over;
      },
    };
  }

  // Another server takes over from one that is stopped, and is killed when the stopped one has gone on.
  async #succeed(server: ServerProcess): Promise<void> {
    await this.#failovers?.stop();
    await sleep(this.#random.below(ZOMBIE_DELAY_MS_MAX));
    const zombie = new Zombie(server, this.#directories);
    const left = this.#directory;
    const heir = await this.#takeOver(zombie);
    this.#processes.delete(server);
    rmSync(left, { recursive: true });
    this.#judgeZombies(await this.#rows());
    await this.#kill(heir.server);
    await heir.load.end();
    if (heir.server.diedByItself) throw new Error(`It died by itself:\n${heir.server.output}`);
    this.#failovers?.start();
  }

  async #takeOver(zombie: Zombie): Promise<{ server: ServerProcess; load: Load }> {
    try {
      await zombie.freeze();
      const left = this.#directory;
      cpSync(left, this.#nextDirectory(), { recursive: true });
      const server = this.#start();
      const port = await server.ready();
      await this.#settle(port);
      const client = await Client.open(port);
      await zombie.isSucceededBy(client);
      client.close();
      // The heir is without load: what it does not change, the zombie must not change either.
      if (await zombie.revive()) this.#result.zombies++;
      else this.#result.foreign.push('A server wrote to the database after another one had taken over');
      return { server, load: this.#load(port) };
    } finally {
      await zombie.end();
    }
  }

  // Its connections may be cut meanwhile.
  async #rows(): Promise<ReadonlyMap<string, TortureRow>> {
    const { database, signal } = this.#options;
    const endMs = performance.now() + PATIENCE_MS;
    for (;;) {
      try {
        return await database.rows();
      } catch (error) {
        if (performance.now() >= endMs || signal?.aborted) throw error;
        await sleep(200, signal);
      }
    }
  }

  #judgeZombies(rows: ReadonlyMap<string, TortureRow>): void {
    for (const key of rows.keys()) if (key.startsWith(ZOMBIE_PREFIX)) this.#result.foreign.push(key);
  }

  // At random moments of a life. The first has all of them, so that no campaign is without one.
  #faults(round: number): { names: readonly string[]; over: Promise<unknown> } {
    const { database, signal } = this.#options;
    const chosen = database.faults.filter(() => this.#random.below(3) === 0 || round === 0);
    const over = Promise.all(
      chosen.map(async (fault) => {
        await sleep(this.#random.below(LIFE_MS_MAX), signal);
        if (signal?.aborted) return;
        await fault.run();
        this.#result.faults.set(fault.name, (this.#result.faults.get(fault.name) ?? 0) + 1);
      }),
    );
    this.#faulting = over.catch(() => {});
    return { names: chosen.map(({ name }) => name), over };
  }

  async #settle(port: number): Promise<void> {
    const client = await Client.open(port);
    for (const session of this.#sessions) this.#result.lost.push(...(await session.settle(client)));
    client.close();
  }

  // Nothing more happens: everything must arrive.
  async #rest(): Promise<void> {
    const { database } = this.#options;
    const server = this.#start();
    const port = await server.ready();
    await this.#settle(port);
    await this.#arrive();
    if (this.#failovers !== undefined) await this.#goBackAtRest(port, this.#failovers);
    await this.#end(server);
    this.#judgeZombies(await database.rows());
    const { count, repeated } = await database.effects();
    this.#result.duplicated.push(...repeated);
    this.#result.effects = count;
  }

  // Compares the rows until they are right, or the time is over.
  async #arrive(): Promise<void> {
    const { database, peaceMs, signal } = this.#options;
    let endMs = performance.now() + peaceMs;
    let fewest = Number.POSITIVE_INFINITY;
    for (;;) {
      const rows = await database.rows();
      const wrong = this.#sessions.flatMap((session) => session.compare(rows));
      // A slow machine gets its time, if only it comes nearer.
      if (wrong.length < fewest) endMs = performance.now() + peaceMs;
      fewest = Math.min(fewest, wrong.length);
      if (wrong.length === 0 || performance.now() >= endMs) {
        this.#result.lost.push(...wrong);
        this.#result.rows = this.#sessions.reduce((sum, session) => sum + session.keyCount, 0);
        return;
      }
      await sleep(200, signal);
      signal?.throwIfAborted();
    }
  }

  // Once more, when it is certain that it takes something, and when only a look of the writer finds it.
  async #goBackAtRest(port: number, failovers: Failovers): Promise<void> {
    await this.#options.database.past!.remember();
    const client = await Client.open(port);
    const stop = new AbortController();
    const [session] = this.#sessions;
    const before = session!.acknowledged;
    const loading = session!.load(client, this.#clientRandoms[0]!, stop.signal);
    const enough = async (): Promise<void> => {
      const endMs = performance.now() + PATIENCE_MS;
      const isEnough = (): boolean => session!.acknowledged >= before + CHANGES_AT_REST;
      while (!stop.signal.aborted && !isEnough() && performance.now() < endMs) await sleep(20);
    };
    await Promise.race([enough(), loading]);
    stop.abort();
    await loading;
    client.close();
    await this.#arrive();
    await failovers.goBack();
    await this.#arrive();
  }
}
