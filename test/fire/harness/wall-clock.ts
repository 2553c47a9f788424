// The machine's clock as one process sees it, to be set while that runs: clock-shim.c, compiled and preloaded.

import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { projectRoot } from './target.ts';

export class WallClock {
  readonly #file: string;
  readonly #library: string;

  /** Compiles it into a folder. Throws where there is no C compiler. */
  constructor(folder: string) {
    this.#file = join(folder, 'clock');
    this.#library = join(folder, 'clock.so');
    const source = join(projectRoot, 'test/fire/harness/clock-shim.c');
    execFileSync('cc', ['-shared', '-fPIC', '-O1', '-o', this.#library, source], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    writeFileSync(this.#file, Buffer.alloc(8));
  }

  /** Moves the clock this far from the machine's own: at once, for running processes too. */
  set(offsetMs: number): void {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(BigInt(offsetMs));
    writeFileSync(this.#file, bytes, { flag: 'r+' });
  }

  /** For a process that is to have it. */
  get environment(): Record<string, string> {
    return { LD_PRELOAD: this.#library, CAIRN_CLOCK_FILE: this.#file };
  }
}
