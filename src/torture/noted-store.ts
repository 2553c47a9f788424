/** What databases without triggers have in common: the server writes through noted.ts, which notes effects as rows. */
import { fileURLToPath } from 'node:url';
import type { DatabaseFault, Effects, TortureDatabase, TortureRow } from './database.ts';
import type { Past } from './failovers.ts';
import { NOTED_VARIABLE } from './noted.ts';
import { scanEffects, scanRows } from './scanned.ts';

export interface NotedStoreOptions {
  readonly name: string;
  /** As the option `store` takes it. */
  readonly address: string;
  readonly level?: TortureDatabase['level'] | undefined;
  readonly faults?: readonly DatabaseFault[] | undefined;
  readonly past?: Past | undefined;
  /** Removes all that was made. */
  readonly remove: () => Promise<void> | void;
}

export class NotedStore implements TortureDatabase {
  readonly name: string;
  readonly level: TortureDatabase['level'];
  readonly environment: Readonly<Record<string, string>>;
  readonly faults: readonly DatabaseFault[];
  readonly past: Past | undefined;
  readonly #options: NotedStoreOptions;

  constructor(options: NotedStoreOptions) {
    const { name, address, level = 'transactional', faults = [], past } = options;
    this.name = name;
    this.level = level;
    this.faults = faults;
    this.past = past;
    const module = fileURLToPath(new URL(`./noted.${import.meta.url.endsWith('.ts') ? 'ts' : 'js'}`, import.meta.url));
    this.environment = { CAIRN_STORE: module, [NOTED_VARIABLE]: address };
    this.#options = options;
  }

  async watch(): Promise<void> {}

  rows(): Promise<ReadonlyMap<string, TortureRow>> {
    return scanRows(this.#options.address);
  }

  effects(): Promise<Effects> {
    return scanEffects(this.#options.address);
  }

  async end(keeps: boolean): Promise<void> {
    if (!keeps) await this.#options.remove();
  }
}
