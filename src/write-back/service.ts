/**
 * A writer at work for a keeper, in whichever thread: takes commands, tells what happens, keeps the numbers. The
 * keeper's file says who starts it.
 */
import { checkCounters, type DeadLetter } from '../backend/index.ts';
import { type Looker, lookers } from '../native/wake.ts';
import { AtomicBatches, type BackedHandle, LOG_METRICS_MAX, type LoadHandle, LogMetricPlace } from '../native.ts';
import { RuleSet } from '../rules/index.ts';
import { plainError, type RecordFinder } from '../scribe/index.ts';
import { beat, PULSE_MS } from '../supervisor.ts';
import type { WriterClock } from './clock.ts';
import { CALL_TIMEOUT_MS } from './connection.ts';
import { LoaderService } from './loader.ts';
import type {
  DeadLetterNotice,
  StoreNotice,
  StoreSeat,
  WriterCommand,
  WriterData,
  WriterReport,
  WriterTold,
} from './message.ts';
import { WRITER_STATES, WriteBackMetrics } from './metrics.ts';
import { logPressure, Pressure, slowdownMs } from './pressure.ts';
import { refusedAmong } from './refused-keys.ts';
import { StoredHealthWatch } from './stored-health.ts';
import { StubResolver } from './stub-resolver.ts';
import { Sweeper } from './sweeper.ts';
import { WarmUp } from './warm-up.ts';
import { type Committed, Writer, type WriterOptions, type WriterState } from './writer.ts';
import type { WriterLog } from './writer-log.ts';

/** Dead letters of one batch that are told one by one. */
const DEAD_LETTERS_TOLD = 20;

export interface WriterServiceOptions
  extends Pick<WriterOptions, 'log' | 'marksOf' | 'connect' | 'clock' | 'random'>,
    Pick<WriterData, 'seat' | 'options' | 'isPaused' | 'pulse' | 'reached' | 'numbers' | 'warmUpNumbers'> {
  /** Of the cache; stays the caller's. */
  readonly handle: LoadHandle & BackedHandle;
  readonly finder: RecordFinder;
  readonly say: (report: WriterReport) => void;
}

export class WriterService {
  readonly #say: (report: WriterReport) => void;
  readonly #log: WriterLog;
  readonly #handle: BackedHandle;
  readonly #clock: WriterClock;
  readonly #slowdownMs: number;
  readonly #pulse: SharedArrayBuffer;
  readonly #seat: StoreSeat;
  readonly #metrics: WriteBackMetrics;
  readonly #writer: Writer;
  readonly #loader: LoaderService;
  readonly #sweeper: Sweeper | undefined;
  readonly #warmUp: WarmUp | undefined;
  /** Those that are awaited, by the numbers of their commands. */
  readonly #drains = new Map<number, AbortController>();
  readonly #health: StoredHealthWatch;
  readonly #pressure = new Pressure((of, percent) => this.#notify({ kind: 'pressure', of, percent }));
  readonly #logNumbers = new Float64Array(LOG_METRICS_MAX);
  // A caller has begun to wait for the database, or this thread was woken for another part.
  readonly #looker: Looker = {
    look: () => {
      if (this.#handle.takeWanted()) this.#writer.hurry();
    },
  };
  #wasFailing = false;
  #beat: { stop(): void } | undefined;
  /** Rejects for a fault of ours; otherwise it resolves when the writer has ended. */
  readonly ended: Promise<void>;

  constructor(given: WriterServiceOptions) {
    const { log, marksOf, connect, seat, options, isPaused, clock, random, pulse, numbers, handle, finder, say } =
      given;
    this.#say = say;
    this.#log = log;
    this.#handle = handle;
    this.#clock = clock;
    this.#slowdownMs = options.slowdownMs;
    this.#pulse = pulse;
    this.#seat = seat;
    this.#metrics = new WriteBackMetrics(numbers, seat.number);
    this.#metrics.set('state', WRITER_STATES.indexOf('opening'));
    this.#metrics.set('lanes', options.lanes);
    this.#health = new StoredHealthWatch({
      ...{ handle, clock, lanes: options.lanes, ackTimeoutMs: options.ackTimeoutMs },
    });
    const rules = RuleSet.from(options.rules);
    this.#writer = new Writer({
      log,
      lanes: options.lanes,
      isOneOfSeveral: seat.count > 1,
      marksOf,
      connect: async () => {
        const backend = await connect();
        const isWhole = backend.level === 'transactional';
        if (rules !== undefined) checkCounters(backend, rules);
        handle.setAtomicBatches(isWhole ? AtomicBatches.allowed : AtomicBatches.refused);
        return backend;
      },
      limits: options.limits,
      rules,
      rowsPerSecond: options.rowsPerSecond,
      dropsRefused: options.dropsRefused,
      retainMs: options.retainMs,
      reached: given.reached,
      callTimeoutMs: CALL_TIMEOUT_MS,
      clock,
      random,
      on: {
        state: (state, cause) => this.#onState(state, cause),
        committed: (batch) => this.#onCommitted(batch),
        retry: () => this.#metrics.add('retries', 1),
        healing: (bytes) => {
          this.#metrics.add('healings', 1);
          this.#notify({ kind: 'healing', bytes });
        },
        healed: () => this.#notify({ kind: 'healed' }),
        historyShort: (keptMs) => this.#notify({ kind: 'history-short', keptMs }),
      },
    });
    lookers.add(this.#looker);
    handle.listenWanted();
    if (isPaused) this.#writer.pause();
    this.#loader = new LoaderService({
      ...{ handle, rules, source: this.#writer },
      stubs: new StubResolver(handle, finder),
      ...{ limits: options.loads, clock, random },
      on: {
        asked: (keys, elapsedMs) => this.#onAsked(keys, elapsedMs),
        failed: () => this.#metrics.add('loadsFailed', 1),
        opened: () => this.#metrics.add('circuitOpened', 1),
      },
    });
    if (options.sweepRows > 0) {
      this.#sweeper = new Sweeper({
        ...{ source: this.#writer, settled: () => log.settled(), clock, rows: options.sweepRows },
        on: {
          swept: (rows) => this.#metrics.add('sweptRows', rows),
          failed: () => this.#metrics.add('sweepsFailed', 1),
        },
      });
    }
    if (options.warmUp !== undefined && given.warmUpNumbers !== undefined) {
      this.#warmUp = new WarmUp({
        ...{ cacheId: handle.cacheId, rules, use: (run) => this.#writer.use(run), clock, random },
        ...{ options: options.warmUp, numbers: given.warmUpNumbers },
      });
    }
    this.ended = this.#writer.ended;
    this.#tick();
  }

  async obey(command: WriterTold): Promise<void> {
    const { id } = command;
    if (command.kind === 'cancel') {
      this.#drains.get(id)?.abort();
      return;
    }
    try {
      const result = await this.#do(command);
      this.#measure();
      this.#say({ kind: 'done', id, result, error: undefined });
    } catch (error) {
      this.#measure();
      this.#say({ kind: 'done', id, result: undefined, error: plainError(error) });
    }
  }

  async #do(command: WriterCommand): Promise<unknown> {
    switch (command.kind) {
      case 'drain':
        return this.#drain(command.id, command.position);
      case 'close':
        return this.#close(command.finishes ? command.timeoutMs : undefined);
      case 'list-dead-letters':
        return this.#writer.useDeadLetters((letters) => letters.list(command.limit, command.after));
      case 'find-refused-key':
        return this.#writer.useDeadLetters((letters) =>
          refusedAmong(
            letters,
            command.keys.map((key) => Buffer.from(key)),
          ),
        );
      case 'drop-dead-letters':
        return this.#writer.useDeadLetters((letters) => letters.drop(command.ids));
      case 'add-again':
        return this.#writer.useDeadLetters(async (letters) => letters.addAgain?.(command.letter));
      default:
        return this.#writer[command.kind]();
    }
  }

  async #drain(id: number, position: bigint): Promise<void> {
    const controller = new AbortController();
    this.#drains.set(id, controller);
    try {
      await this.#writer.drain(position, controller.signal);
    } finally {
      this.#drains.delete(id);
    }
  }

  async #close(timeoutMs: number | undefined): Promise<void> {
    this.#warmUp?.close();
    this.#loader.close();
    this.#sweeper?.close();
    await this.#writer.close(timeoutMs === undefined ? 0 : timeoutMs || Number.POSITIVE_INFINITY);
    this.#beat?.stop();
    lookers.delete(this.#looker);
  }

  // Shows that this thread's event loop turns.
  #tick(): void {
    beat(this.#pulse);
    this.#measure();
    this.#health.onStates(this.#writer.laneStates);
    this.#health.look();
    this.#beat = this.#clock.after(PULSE_MS, () => this.#tick());
  }

  #measure(): void {
    const { confirmed, owed, history } = this.#writer;
    this.#metrics.set('behindBytes', this.#writer.isIdle ? 0 : this.#log.bytesFrom(confirmed));
    this.#metrics.set('owedRecords', owed.records);
    this.#metrics.set('owedBytes', owed.bytes);
    this.#metrics.set(
      'oldestUnwrittenMs',
      Math.max(0, this.#clock.wallMs() - (owed.oldestMs ?? Number.POSITIVE_INFINITY)),
    );
    this.#metrics.set('historyMs', history.ms);
    this.#metrics.set('historyBytes', history.bytes);
    this.#press();
  }

  #press(): void {
    this.#handle.logMetrics(this.#logNumbers);
    const { state, confirmed } = this.#writer;
    // Its cursor holds the log also where it only has to pass what is not its own: without the database it does not.
    const behindBytes = state === 'writing' ? this.#metrics.get('behindBytes') : this.#log.bytesFrom(confirmed);
    const log = logPressure({
      bytes: this.#logNumbers[LogMetricPlace.logBytes]!,
      limitBytes: this.#logNumbers[LogMetricPlace.logLimitBytes]!,
      behindBytes,
      historyBytes: this.#metrics.get('historyBytes'),
    });
    const reserve = Math.round(100 * this.#handle.stubShare());
    this.#metrics.set('logPressure', log);
    this.#metrics.set('reservePressure', reserve);
    this.#slow(slowdownMs(Math.max(log, reserve), this.#slowdownMs));
    // Before it is told of.
    this.#metrics.publish(this.#handle);
    this.#pressure.look('log', log);
    // All databases share it: the writer of one of them tells of it.
    if (this.#seat.number === 0) this.#pressure.look('reserve', reserve);
  }

  // The doors have their changes wait for this time.
  #slow(ms: number): void {
    if (ms !== this.#metrics.get('slowdownMs')) this.#handle.setSlowdown(ms);
    const [changes, totalMs] = this.#handle.slowedChanges();
    this.#metrics.set('slowdownMs', ms);
    this.#metrics.set('slowedChanges', changes);
    this.#metrics.set('slowedMs', totalMs);
  }

  #onState(state: WriterState, cause: Error | undefined): void {
    this.#health.onStates(this.#writer.laneStates);
    this.#metrics.set('state', WRITER_STATES.indexOf(state));
    this.#measure();
    this.#say({ kind: 'state', state, cause: cause === undefined ? undefined : plainError(cause) });
    if (state === 'retrying' || state === 'halted' || state === 'refused') {
      this.#wasFailing = state !== 'refused';
      this.#notify({ kind: state, cause: plainError(cause) });
    } else if (this.#wasFailing && state !== 'closed') {
      this.#wasFailing = false;
      this.#notify({ kind: 'recovered' });
    }
  }

  #onCommitted(batch: Committed): void {
    this.#health.onStates(this.#writer.laneStates);
    this.#health.onCommitted(batch.lanes, batch.laneCount);
    const metrics = this.#metrics;
    metrics.ended('batch', batch.elapsedMs);
    metrics.add('records', batch.recordCount);
    metrics.add('rows', batch.changes.length);
    metrics.add('rowBytes', batch.bytes);
    metrics.add('deadLetters', batch.deadLetters.length);
    metrics.set('batchLastRows', batch.changes.length);
    metrics.set('batchLastMs', batch.elapsedMs);
    for (const letter of batch.deadLetters.slice(0, DEAD_LETTERS_TOLD)) this.#notify(noticeOf(letter));
    const more = batch.deadLetters.length - DEAD_LETTERS_TOLD;
    if (more > 0) this.#notify({ kind: 'dead-letters', count: more });
  }

  #onAsked(keys: number, elapsedMs: number): void {
    this.#metrics.ended('question', elapsedMs);
    this.#metrics.add('keysAsked', keys);
  }

  #notify(notice: StoreNotice): void {
    this.#say({ kind: 'notice', notice });
  }
}

function noticeOf({ change, error }: DeadLetter): DeadLetterNotice {
  const text = change.key.toString('utf8');
  const key = Buffer.from(text, 'utf8').equals(change.key) ? text : Buffer.from(change.key);
  return { kind: 'dead-letter', key, change: change.kind, version: change.version, cause: plainError(error) };
}
