/**
 * Records that the log has lost (`LogPort.lost`) and that no snapshot has made good. The cache still has them. Until a
 * snapshot has them too, syncs fail. The number is kept with the metrics, where the next scribe's thread finds it if
 * this one dies.
 */

import type { CairnError } from '../errors.ts';
import { type LogPort, recordsLost } from '../log/index.ts';
import type { Metrics } from './metrics.ts';

export class Losses {
  readonly #log: LogPort;
  readonly #metrics: Metrics;
  readonly #publish: () => void;
  /** Records of `log.lost` that are in the metrics. */
  #counted = 0;

  /** `publish`: gives the metrics out. */
  constructor(log: LogPort, metrics: Metrics, publish: () => void) {
    this.#log = log;
    this.#metrics = metrics;
    this.#publish = publish;
  }

  /** Why nothing may be called safe; undefined: nothing is lost. */
  error(): CairnError | undefined {
    const { recordCount } = this.#log.lost;
    if (recordCount > this.#counted) {
      this.#metrics.add('recordsLost', recordCount - this.#counted);
      this.#counted = recordCount;
      this.#publish();
    }
    return this.count === 0 ? undefined : recordsLost(this.#log.name, this.count);
  }

  get count(): number {
    return this.#metrics.get('recordsLost');
  }

  /** A snapshot that began when `count` were lost is complete. */
  madeGood(count: number): void {
    this.#metrics.add('recordsLost', -count);
  }
}
