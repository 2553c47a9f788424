/**
 * The writers of a cache that is not open yet, one for each of its databases (early-writer.ts): each brings its part of
 * the log there. All of them have to have it before memory counts on that.
 */
import type { Rule } from '../rules/index.ts';
import type { Carrier, Written } from '../scribe/index.ts';
import type { EarlyWriter } from './early-writer.ts';
import { checkRules } from './kept-rules.ts';

export class EarlyWriters implements Carrier {
  /** By the names of their databases. */
  readonly #writers: ReadonlyMap<string, EarlyWriter>;
  readonly #rules: readonly Rule[];

  /** `rules`: as they are for all databases together. */
  constructor(writers: ReadonlyMap<string, EarlyWriter>, rules: readonly Rule[]) {
    this.#writers = writers;
    this.#rules = rules;
  }

  get written(): Written {
    return this.#all
      .map(({ written }) => written)
      .reduce((all, one) => ({
        records: all.records + one.records,
        bytes: all.bytes + one.bytes,
        deadLetters: all.deadLetters + one.deadLetters,
        elapsedMs: Math.max(all.elapsedMs, one.elapsedMs),
      }));
  }

  async reach(...[files, confirmed, onProgress]: Parameters<Carrier['reach']>): Promise<void> {
    // They are kept when each database has been found to belong to the log.
    checkRules({
      files,
      rules: this.#rules,
      confirmed: new Map([...this.#writers.keys()].map((name) => [name, confirmed])),
    });
    await Promise.all(this.#all.map((writer) => writer.reach(files, confirmed, onProgress)));
  }

  async write(...[position, onProgress]: Parameters<Carrier['write']>): Promise<void> {
    await Promise.all(this.#all.map((writer) => writer.write(position, onProgress)));
  }

  /** Ends them. Never rejects. */
  async close(): Promise<void> {
    await Promise.all(this.#all.map((writer) => writer.close()));
  }

  get #all(): EarlyWriter[] {
    return [...this.#writers.values()];
  }
}
