// Two databases behind one cache: rules lead some keys of every client to a second one, which is stopped at times while
// the first one goes on, and whose effects are counted there. A row counts only in the database of its rule; in the
// other one it is a failure.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { DatabaseFault, Effects, TortureDatabase, TortureRow } from '../../../../src/torture/database.ts';
import type { Past } from '../../../../src/torture/failovers.ts';
import { lmdbStore } from '../../../../src/torture/file-stores.ts';
import { sleep } from '../../../../src/torture/sleep.ts';
import { DATABASE_VARIABLE, STOP_VARIABLE } from './stoppable.ts';

const OTHER = 'other';
/** Keys of the second database: those of clients s0 to s5 whose numbers begin so, and all of the last client. */
const PREFIXES: readonly string[] = [...[0, 1, 2, 3, 4].flatMap((client) => [`s${client}:k1`, `s${client}:k2`]), 's5:'];
const STOPPED_MS = 600;

const isOther = (key: string): boolean => PREFIXES.some((prefix) => key.startsWith(prefix));

export class SeveralStores implements TortureDatabase {
  readonly name: string;
  readonly level: TortureDatabase['level'];
  readonly environment: Readonly<Record<string, string>>;
  readonly faults: readonly DatabaseFault[];
  readonly past: Past | undefined;
  readonly #first: TortureDatabase;
  readonly #second: TortureDatabase;
  readonly #folder: string;

  /** `mistake`: `misplaced`: the server has a rule less, to show that this is found. */
  static async make(first: TortureDatabase, mistake = ''): Promise<SeveralStores> {
    return new SeveralStores(first, await lmdbStore('lmdb:'), mistake);
  }

  private constructor(first: TortureDatabase, second: TortureDatabase, mistake: string) {
    this.#first = first;
    this.#second = second;
    this.#folder = mkdtempSync(join(tmpdir(), 'cairn-fire-several-'));
    this.name = `${first.name} and ${second.name}`;
    this.level = first.level;
    const stop = join(this.#folder, 'stop');
    const end = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    const module = fileURLToPath(new URL(`./stoppable.${end}`, import.meta.url));
    const given = mistake === 'misplaced' ? PREFIXES.slice(1) : PREFIXES;
    this.environment = {
      ...first.environment,
      CAIRN_STORES: JSON.stringify({ [OTHER]: module }),
      CAIRN_RULES: JSON.stringify(given.map((prefix) => ({ prefix, store: OTHER }))),
      [DATABASE_VARIABLE]: Object.values(second.environment).find((value) => value.startsWith('lmdb:'))!,
      [STOP_VARIABLE]: stop,
    };
    const stopAWhile = async (): Promise<void> => {
      writeFileSync(stop, '');
      await sleep(STOPPED_MS);
      rmSync(stop);
    };
    this.faults = [...first.faults, { name: `${OTHER} stopped`, run: stopAWhile }];
    this.past = pastOf([first.past, second.past].filter((past) => past !== undefined));
  }

  async watch(): Promise<void> {
    await Promise.all([this.#first.watch(), this.#second.watch()]);
  }

  /** Each as the database of its rule has it. */
  async rows(): Promise<ReadonlyMap<string, TortureRow>> {
    const [first, second] = await this.#allRows();
    return new Map([...[...first!].filter(([key]) => !isOther(key)), ...[...second!].filter(([key]) => isOther(key))]);
  }

  #allRows(): Promise<ReadonlyMap<string, TortureRow>[]> {
    return Promise.all([this.#first.rows(), this.#second.rows()]);
  }

  async effects(): Promise<Effects> {
    const rows = await this.#allRows();
    const strays = rows.flatMap((its, i) => [...its.keys()].filter((key) => isOther(key) !== (i === 1)));
    if (strays.length > 0) throw new Error(`Rows are in the database of another rule: ${strays.slice(0, 5)}`);
    const [first, second] = await Promise.all([this.#first.effects(), this.#second.effects()]);
    if (second.count === 0) throw new Error(`${this.#second.name} has got no change`);
    return { count: first.count + second.count, repeated: [...first.repeated, ...second.repeated] };
  }

  async end(keeps: boolean): Promise<void> {
    await Promise.all([this.#first.end(keeps), this.#second.end(keeps)]);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

// They go back by turns, each by itself, while the others stay where they are.
function pastOf(pasts: readonly Past[]): Past | undefined {
  if (pasts.length === 0) return undefined;
  let turn = 0;
  return {
    remember: () => pasts[++turn % pasts.length]!.remember(),
    goBack: () => pasts[turn % pasts.length]!.goBack(),
  };
}
