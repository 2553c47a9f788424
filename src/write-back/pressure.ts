/**
 * How near the log and memory are to the point at which changes are refused, because the database does not take them.
 * Each is told when it passes a grade on its way up, and when it is relieved: then it has to come back to the first
 * grade before it is told again.
 *
 * | what      | is full when                                                                                        |
 * |-----------|-----------------------------------------------------------------------------------------------------|
 * | `log`     | the changes that the database lacks have taken all room of the log that nothing else needs          |
 * | `reserve` | memory has no room for stubs of keys whose changes the database lacks, and whose values left memory |
 *
 * From the first grade on changes are slowed, by a time that grows with the higher of the two.
 */

/** Percentages that are told. */
export const PRESSURE_GRADES: readonly number[] = [50, 75, 90];
/** Below this it is relieved. */
export const RELIEVED_PERCENT = 40;

export type Pressed = 'log' | 'reserve';

/** The log, in bytes. */
export interface LogRoom {
  /** What it takes. */
  readonly bytes: number;
  /** 0: it has none. */
  readonly limitBytes: number;
  /**
   * Of what it takes: what the database lacks, or its cursor holds, and what is kept for a database that goes back,
   * which gives way.
   */
  readonly behindBytes: number;
  readonly historyBytes: number;
}

/** From 0 to 100. */
export function logPressure({ bytes, limitBytes, behindBytes, historyBytes }: LogRoom): number {
  if (limitBytes === 0 || behindBytes === 0) return 0;
  const room = Math.max(0, limitBytes - bytes) + historyBytes;
  return Math.round((100 * behindBytes) / (behindBytes + room));
}

/**
 * How long a change waits before it is answered: nothing up to the first grade, and `mostMs` at 100 percent. It grows
 * with the square, so that a short outage costs little. Writers that wait for their answers come to the pace at which
 * the database takes changes: while they are faster, the share grows, and with it this time.
 */
export function slowdownMs(percent: number, mostMs: number): number {
  const [first] = PRESSURE_GRADES as [number, ...number[]];
  const [above, range] = [Math.min(100, percent) - first, 100 - first];
  return above <= 0 ? 0 : Math.ceil((mostMs * above ** 2) / range ** 2);
}

export class Pressure {
  readonly #told: Record<Pressed, number> = { log: 0, reserve: 0 };
  readonly #tell: (of: Pressed, percent: number) => void;

  /** `tell`: a grade, or 0: it is relieved. */
  constructor(tell: (of: Pressed, percent: number) => void) {
    this.#tell = tell;
  }

  look(of: Pressed, percent: number): void {
    const grade = PRESSURE_GRADES.findLast((each) => percent >= each) ?? 0;
    const told = this.#told[of];
    if (grade > told || (told > 0 && percent < RELIEVED_PERCENT)) {
      this.#told[of] = grade;
      this.#tell(of, grade);
    }
  }
}
