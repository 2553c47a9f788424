// One directory under fire. Life after life a cache is opened on it, in other sizes and with other settings, checked,
// loaded by many sessions through every door, and killed at a random moment: in the middle of its load, of its
// recovery, of a snapshot, of its close. The history of all that is judged as one (support/history-check.ts).
//
// What is drawn comes from the seed; when exactly a kill meets the process does not, so that a seed repeats the shape
// of a campaign and not each of its moments.

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Recorder } from '../../support/history.ts';
import { type CheckOptions, checkHistory, checkTokens, type Verdict } from '../../support/history-check.ts';
import { Random } from '../../support/random.ts';
import type { ActorOptions } from './actor.ts';
import { readHistory } from './history-file.ts';
import { libraryUrl, PATIENCE_MS, Target } from './target.ts';
import { TcpLoad } from './tcp-load.ts';
import { TcpSession } from './tcp-session.ts';
import { WallClock } from './wall-clock.ts';
import { Workload, type WorkloadOptions } from './workload.ts';

export interface CampaignOptions {
  readonly seed: number;
  /** Kills. */
  readonly rounds: number;
  /** An empty folder; a history that is wrong is left in it. */
  readonly folder: string;
  /** `none`: the cache is in memory only, and everything is lost. */
  readonly log: 'on' | 'none';
  /** Entries do not fit into memory and are evicted. */
  readonly evicts: boolean;
  /** The directory is on a separate disk, which is too small now and then. For root. */
  readonly smallDisk?: boolean;
  /**
   * What answers wait for, default `logged`. At `memory` a crash may take what was told, but no version that was told
   * may ever belong to something else.
   */
  readonly ack?: 'memory' | 'logged';
  /** The machine's clock jumps by an hour now and then. */
  readonly clockJumps?: boolean;
  /** Answers in one life, at most. */
  readonly answersMax: number;
  /** Connections that load the cache over TCP, default 6. Without any, the program itself is all the load there is. */
  readonly connections?: number;
  /** Which processes: default both. */
  readonly targets?: readonly ('serve' | 'api')[];
  readonly onRound?: (line: string) => void;
}

export interface CampaignResult extends Verdict {
  readonly rounds: number;
  readonly kills: number;
  readonly stops: number;
  /** Operations that change something, whether known to have happened or not. */
  readonly writes: number;
  readonly acknowledged: number;
  readonly unknown: number;
  readonly refused: number;
  /** Where the history was kept, if something is wrong with it. */
  readonly kept: string | undefined;
}

/** What is drawn for one life. */
interface Life {
  readonly kind: 'serve' | 'api';
  readonly end: 'kill' | 'kill-in-recovery' | 'stop' | 'exit' | 'kill-in-stop';
  readonly settings: string;
  start(): Target;
}

const CONNECTIONS = 6;
/** How long a life without connections is loaded, at most. */
const LOAD_MS_MAX = 500;
const DEPTH = 4;
/** Long enough for a full disk to try everybody's patience. */
const LONG_LOAD_MS = 3000;
const HOUR_MS = 3_600_000;
const LARGE_DISK_MB = 512;
/** Sessions of other processes are numbered from here on. */
const ACTOR_SESSIONS = 1000;

/** Whether a process can be held to one processor here. */
const CAN_PIN = process.platform === 'linux' && spawnSync('taskset', ['-c', '0', 'true']).status === 0;

export class Campaign {
  readonly #options: CampaignOptions;
  readonly #random: Random;
  readonly #recorder = new Recorder();
  readonly #workload: WorkloadOptions;
  readonly #data: string;
  readonly #clock: WallClock | undefined;
  readonly #isLimited: boolean;
  readonly #damaged = new Set<string>();
  #diskMb = 0;
  #session = 0;
  #kills = 0;
  #stops = 0;
  #startMs = 200;

  constructor(options: CampaignOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#data = join(options.folder, 'disk', 'data');
    mkdirSync(join(options.folder, 'disk'), { recursive: true });
    if (options.smallDisk) this.#mount(LARGE_DISK_MB);
    // Where the clock jumps, the moment at which an entry expires is unknown.
    if (options.clockJumps) this.#clock = new WallClock(options.folder);
    const expires = !options.clockJumps && this.#random.below(2) === 0;
    // Where the log has hardly room, only what the newest snapshot needs is kept, and large values are refused.
    this.#isLimited = options.smallDisk === true || this.#random.below(2) === 0;
    this.#workload = options.evicts
      ? { registers: 4000, valueBytesMax: 20_000, clearEvery: 4000, expires: false }
      : {
          registers: 80,
          valueBytesMax: this.#isLimited ? 100_000 : this.#random.pick([20_000, 200_000, 900_000]),
          clearEvery: 4000,
          expires,
        };
  }

  async run(): Promise<CampaignResult> {
    try {
      return await this.#run();
    } finally {
      if (this.#options.smallDisk) execFileSync('umount', ['-l', join(this.#options.folder, 'disk')]);
    }
  }

  async #run(): Promise<CampaignResult> {
    const { rounds } = this.#options;
    for (let round = 0; round < rounds; ) {
      const life = this.#draw();
      await this.#live(life);
      if (life.end !== 'stop' && life.end !== 'exit') round++;
    }
    await this.#live({ ...this.#draw(), end: 'stop' });
    await this.#live({ ...this.#draw(), end: 'kill' });
    return this.#judge();
  }

  // ---- one life ----

  async #live(life: Life): Promise<void> {
    this.#jump();
    this.#resizeDisk();
    this.#damageSnapshot();
    const number = this.#recorder.startLife();
    const start = performance.now();
    const target = life.start();
    let answers = 0;
    try {
      if (life.end === 'kill-in-recovery') {
        await Promise.race([target.ready(), sleep(this.#random.below(this.#startMs * 1.2))]);
        await this.#kill(target);
      } else {
        const port = await this.#ready(target);
        if (port === undefined) return;
        this.#startMs = performance.now() - start;
        const load = await this.#load(target, port);
        answers = load.answers;
        await this.#end(life, target);
        await load.end();
      }
    } catch (error) {
      await target.kill();
      const told = `life ${number} (${life.settings}): ${(error as Error).message}\n${target.output}`;
      throw new Error(`${told}\nfolder: ${this.#options.folder}, seed: ${this.#options.seed}`, { cause: error });
    }
    this.#recorder.endLife(life.end);
    this.#collect(number);
    const ms = Math.round(performance.now() - start);
    this.#options.onRound?.(`life ${number}: ${life.end} after ${answers} answers, ${ms} ms, ${life.settings}`);
  }

  // A disk that is full may keep a log from being opened; with a larger one it must not. Nothing was asked of that
  // life.
  async #ready(target: Target): Promise<number | undefined> {
    try {
      return await target.ready();
    } catch (error) {
      if (!this.#options.smallDisk || this.#diskMb === LARGE_DISK_MB || !target.hasEnded) throw error;
      if (!/ERR_LOG_FULL|ERR_LOG_IO|no room|disk is full|cannot be written/.test(target.output)) throw error;
      this.#recorder.endLife('not opened');
      this.#mount(LARGE_DISK_MB);
      this.#options.onRound?.('not opened: the disk is full');
      return undefined;
    }
  }

  #mount(mb: number): void {
    const how = this.#diskMb === 0 ? `size=${mb}m` : `remount,size=${mb}m`;
    execFileSync('mount', ['-t', 'tmpfs', '-o', how, 'tmpfs', join(this.#options.folder, 'disk')], { stdio: 'ignore' });
    this.#diskMb = mb;
  }

  // Smaller than what is on it, it cannot be: then it is full.
  #resizeDisk(): void {
    if (!this.#options.smallDisk) return;
    if (!existsSync(this.#data)) return;
    const { bsize, blocks, bfree } = statfsSync(this.#data);
    const used = Math.ceil(((blocks - bfree) * bsize) / 2 ** 20);
    try {
      this.#mount(this.#random.pick([used, used, used + 1, LARGE_DISK_MB]));
    } catch {
      // It has grown meanwhile.
    }
  }

  // Reads everything, then loads until enough is answered. The load goes on until the process ends: what is unanswered
  // then is cut off by that and by nothing before.
  async #load(target: Target, port: number): Promise<TcpLoad> {
    await this.#readAll(target, port);
    target.say('go');
    const { answersMax, connections = CONNECTIONS, smallDisk = false } = this.#options;
    const enough = connections === 0 ? 0 : 1 + this.#random.below(answersMax);
    const longer = connections === 0 ? this.#random.below(LOAD_MS_MAX) : this.#random.pick([0, 0, 0, LONG_LOAD_MS]);
    const until = performance.now() + (connections === 0 || smallDisk ? longer : 0);
    // Often before anybody loses patience with a full disk, or seldom.
    const resizeEvery = this.#random.pick([80, 3000]);
    const load = new TcpLoad({
      port,
      connections,
      depth: DEPTH,
      workload: this.#workload,
      recorder: this.#recorder,
      seed: this.#random.bits(),
      nextSession: () => this.#session++,
    });
    let seen = 0;
    let seenAt = performance.now();
    while (load.answers < enough || performance.now() < until) {
      await sleep(1);
      if (this.#random.below(50) === 0) this.#jump();
      if (this.#random.below(resizeEvery) === 0) this.#resizeDisk();
      if (target.hasEnded) throw new Error('It died by itself');
      if (load.failure !== undefined) throw load.failure;
      if (load.answers !== seen) {
        seen = load.answers;
        seenAt = performance.now();
      } else if (performance.now() - seenAt > PATIENCE_MS) throw new Error('It answers no more');
    }
    return load;
  }

  async #readAll(target: Target, port: number): Promise<void> {
    const reader = await TcpSession.open(port, (operation, answer) => this.#recorder.answer(operation, answer));
    const number = this.#session++;
    const keys = Workload.keys(this.#workload);
    // In parts, so that replies of many large values need not all wait for one another.
    for (let i = 0; i < keys.length; i += 200) {
      const asked = keys.slice(i, i + 200).map((key) => this.#recorder.ask(number, { verb: 'get', key }));
      const limit = setTimeout(() => reader.close(), PATIENCE_MS);
      const isAnswered = await reader.ask(asked);
      clearTimeout(limit);
      if (reader.failure !== undefined) throw reader.failure;
      if (!isAnswered) throw new Error(`Reads were not answered${target.hasEnded ? ': it died by itself' : ''}`);
    }
    reader.close();
  }

  // The disk has spoilt the newest snapshot: the one before it, and more of the log, does.
  #damageSnapshot(): void {
    if (this.#isLimited || !existsSync(this.#data) || this.#random.below(5) > 0) return;
    const names = readdirSync(this.#data)
      .filter((name) => name.endsWith('.snapshot'))
      .sort();
    const newest = names.at(-1);
    if (newest === undefined || names.filter((name) => !this.#damaged.has(name)).length < 2) return;
    this.#damaged.add(newest);
    const path = join(this.#data, newest);
    const bytes = readFileSync(path);
    bytes[this.#random.below(bytes.length)]! ^= 1 << this.#random.below(8);
    writeFileSync(path, bytes);
  }

  #jump(): void {
    this.#clock?.set(this.#random.pick([-HOUR_MS, 0, 0, HOUR_MS]));
  }

  async #end({ end, kind }: Life, target: Target): Promise<void> {
    const how = kind === 'serve' ? 'signal' : 'stop';
    if (end === 'stop' || end === 'exit') {
      this.#stops++;
      const code = await target.stop(end === 'exit' ? 'exit' : how);
      // What is not in the log then is said by the code.
      if (code !== 0 && !this.#options.smallDisk) throw new Error(`Expected it to end with 0, got ${code}`);
    } else {
      if (end === 'kill-in-stop') {
        target.askToStop(how);
        await sleep(this.#random.below(60));
      }
      await this.#kill(target);
    }
  }

  async #kill(target: Target): Promise<void> {
    this.#kills++;
    const hadDied = target.hasEnded && target.diedByItself;
    await target.kill();
    if (hadDied) throw new Error('It died by itself');
  }

  #historyFile(life: number): string {
    return join(this.#options.folder, `history-${life}`);
  }

  #collect(life: number): void {
    for (let thread = 0; existsSync(`${this.#historyFile(life)}.${thread}`); thread++) {
      const file = `${this.#historyFile(life)}.${thread}`;
      for (const operation of readHistory(file)) this.#recorder.operations.push(operation);
      rmSync(file);
    }
  }

  // ---- what is drawn ----

  #draw(): Life {
    const random = this.#random;
    const { log, evicts, ack = 'logged', targets = ['serve', 'api'] } = this.#options;
    const kind = random.pick(targets);
    const segmentSize = random.pick([undefined, '64kb', '256kb', '1mb']);
    const logBytes = random.pick([undefined, '64kb', '1mb']);
    // Hardly more than what is there: the log must be cut all the time, and takes nothing now and then.
    const logLimit = this.#isLimited && segmentSize === '256kb' ? random.pick([undefined, '1mb', '8mb']) : undefined;
    const drawn = random.pick([
      ...(['kill', 'kill', 'kill', 'kill', 'kill', 'kill', 'kill', 'kill'] as const),
      ...(['kill-in-recovery', 'kill-in-recovery', 'stop', 'exit', 'kill-in-stop'] as const),
    ]);
    // A server knows no other end than a signal.
    const end = drawn === 'exit' && kind === 'serve' ? 'stop' : drawn;
    const cores = CAN_PIN ? random.pick([undefined, undefined, '0']) : undefined;
    const surroundings = { cores, environment: this.#clock?.environment };
    const where = cores === undefined ? '' : ', one processor';
    const memory = evicts ? random.pick(['8mb', '12mb', '16mb']) : random.pick(['64mb', '100mb', '256mb']);
    const sync = random.pick(['always', 'always', '5ms', '50ms', 'none']);
    const ring = random.pick([undefined, undefined, '1mb', evicts ? '2mb' : '4mb']);
    const every = random.pick(['0ms', '0ms', '1h', '50ms']);
    const life = this.#recorder.lives.length;
    if (kind === 'serve') {
      const args = ['-m', memory];
      if (log === 'on') {
        args.push('--data', this.#data, '--sync', sync, '--ack', ack, '--snapshot-every', every);
        if (ring !== undefined) args.push('--ring', ring);
        if (segmentSize !== undefined) args.push('--segment-size', segmentSize);
        if (logBytes !== undefined) args.push('--snapshot-log-bytes', logBytes);
        if (logLimit !== undefined) args.push('--log-limit', logLimit);
      }
      const settings = `serve ${args.join(' ')}${where}`;
      return { kind, end, settings, start: () => Target.serve(args, surroundings) };
    }
    const open: Record<string, unknown> = { maxMemory: memory };
    const shards = random.pick([undefined, 1, 2, 4]);
    if (shards !== undefined) open['shards'] = shards;
    if (log === 'on') {
      Object.assign(open, { data: this.#data, sync, ack });
      if (ring !== undefined) open['ringSize'] = ring;
      if (segmentSize !== undefined) open['segmentSize'] = segmentSize;
      if (logLimit !== undefined) open['logLimit'] = logLimit;
      open['snapshot'] = { every, atClose: random.below(2) === 0, ...(logBytes === undefined ? {} : { logBytes }) };
    }
    const options: ActorOptions = {
      library: libraryUrl,
      open,
      serve: {},
      workload: this.#workload,
      promised: random.below(3),
      // Without a log there is nothing that sync() would wait for.
      synchronous: log === 'on' ? random.below(3) : 0,
      depth: DEPTH,
      threads: random.below(2),
      seed: random.bits(),
      life,
      session: ACTOR_SESSIONS * (life + 1),
      history: this.#historyFile(life),
      snapshots: log === 'on' && random.below(3) === 0,
      scribeEndsAfterMs: log === 'on' && random.below(5) === 0 ? random.below(200) : undefined,
    };
    const { promised, synchronous, threads, snapshots, scribeEndsAfterMs } = options;
    const shown = { ...open, promised, synchronous, threads, snapshots, scribeEndsAfterMs };
    return {
      kind,
      end,
      settings: `api ${JSON.stringify(shown)}${where}`,
      start: () => Target.act(options, surroundings),
    };
  }

  // ---- what came of it ----

  #judge(): CampaignResult {
    const { folder, evicts, seed, ack = 'logged' } = this.#options;
    const recorder = this.#recorder;
    const check: CheckOptions = { misses: evicts ? 'allowed' : 'explained', clockSlackMs: 1500 };
    const verdict = ack === 'logged' ? checkHistory(recorder, check) : checkTokens(recorder);
    let kept: string | undefined;
    if (verdict.violations.length > 0 || verdict.undecided.length > 0) {
      kept = join(folder, `history-of-${seed}.json`);
      const text = JSON.stringify(
        { seed, check, lives: recorder.lives, operations: recorder.operations },
        (_, value) => (typeof value === 'bigint' ? String(value) : value),
      );
      writeFileSync(kept, text);
    }
    const changes = recorder.operations.filter(({ verb }) => verb !== 'get');
    return {
      ...verdict,
      rounds: this.#options.rounds,
      kills: this.#kills,
      stops: this.#stops,
      writes: changes.length,
      acknowledged: changes.filter(({ answer }) => answer !== undefined && answer !== 'refused').length,
      unknown: changes.filter(({ answer }) => answer === undefined).length,
      refused: changes.filter(({ answer }) => answer === 'refused').length,
      kept,
    };
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
