/**
 * When the next snapshot is due: some time after the last one if anything was written since, or when the log behind it
 * has become long, because that is what recovery reads and what the disk holds; or at once, when the log is at its
 * limit and a snapshot is what keeps it there.
 */
import type { LogClock, LogPort, SnapshotInfo } from '../log/index.ts';
import type { SnapshotSchedule } from './message.ts';

/** Bytes of log behind a snapshot, at least, before the next one is taken for their sake, unless told otherwise. */
const LOG_BYTES_MIN: number = 64 * 2 ** 20;
/** Or this many times the size of the snapshot. */
const LOG_SHARE = 2;
/** A log has a limit: half of it is what a snapshot is taken at, whatever else was said; and less, once it is high. */
const LIMIT_SHARE = 1 / 2;
const LIMIT_SHARE_HIGH = 1 / 8;
/** After one that has failed. */
const RETRY_MS_MIN = 1000;
const RETRY_MS_MAX = 300_000;

export class SnapshotPlan {
  readonly #schedule: SnapshotSchedule;
  readonly #log: LogPort;
  readonly #clock: LogClock;
  /** Records in the log before the last one. */
  #recordsBefore: bigint;
  #payloadBytes: number;
  #doneMs: number;
  // Positions would not do: opening a log leaves some out.
  #logBytes: number;
  #logBytesBefore = 0;
  #retryMs = 0;
  #notBeforeMs = 0;
  #isDemanded = false;

  /** `logBytes`: of the log behind the last one. */
  constructor(schedule: SnapshotSchedule, log: LogPort, clock: LogClock, logBytes: number) {
    const [last] = log.snapshots.sound;
    this.#schedule = schedule;
    this.#log = log;
    this.#clock = clock;
    this.#recordsBefore = last?.recordsBefore ?? 0n;
    this.#payloadBytes = last?.payloadBytes ?? 0;
    this.#doneMs = clock.steadyMs();
    this.#logBytes = logBytes;
  }

  /** Milliseconds until one is to be begun, as far as the clock decides; 0: now. */
  dueInMs(nowMs: number): number {
    const waitMs = Math.max(0, this.#notBeforeMs - nowMs);
    if (this.#isDemanded) return waitMs;
    if (!this.hasNews) return Number.POSITIVE_INFINITY;
    if (this.#logBytes >= this.#logBytesMax()) return waitMs;
    const { everyMs } = this.#schedule;
    return everyMs === 0 ? Number.POSITIVE_INFINITY : Math.max(waitMs, this.#doneMs + everyMs - nowMs);
  }

  /** One is needed, however little there is behind the last one. */
  demand(): void {
    this.#isDemanded = true;
  }

  get isDemanded(): boolean {
    return this.#isDemanded;
  }

  /** Something was written since the last one was begun. */
  get hasNews(): boolean {
    return this.#log.recordsBefore !== this.#recordsBefore;
  }

  /** `bytes` were appended. */
  add(bytes: number): void {
    this.#logBytes += bytes;
  }

  /** One is begun. */
  begin(): void {
    this.#isDemanded = false;
    this.#logBytesBefore = this.#logBytes;
  }

  done(info: SnapshotInfo): void {
    this.#recordsBefore = info.recordsBefore;
    this.#payloadBytes = info.payloadBytes;
    this.#logBytes -= this.#logBytesBefore;
    this.#doneMs = this.#clock.steadyMs();
    this.#retryMs = 0;
    this.#notBeforeMs = 0;
  }

  failed(): void {
    this.#retryMs = Math.min(Math.max(RETRY_MS_MIN, this.#retryMs * 2), RETRY_MS_MAX);
    this.#notBeforeMs = this.#clock.steadyMs() + this.#retryMs;
  }

  #logBytesMax(): number {
    const { limitBytes, level } = this.#log.usage();
    const wanted = this.#schedule.logBytes || Math.max(LOG_BYTES_MIN, LOG_SHARE * this.#payloadBytes);
    return Math.min(wanted, limitBytes * (level === 'ok' ? LIMIT_SHARE : LIMIT_SHARE_HIGH));
  }
}
