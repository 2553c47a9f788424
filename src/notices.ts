/** Who listens to notices of a cache, on one handle: `cache.on('log')` and `cache.on('write-back')`. */
import { wrongType } from './errors.ts';
import { report } from './reports.ts';

/** Gives notices to each listener, from the next one on. */
export interface NoticeSource<N> {
  listen(listener: (notice: N) => void): void;
  unlisten(listener: (notice: N) => void): void;
}

interface Listener<N> {
  readonly listener: (notice: N) => void;
  /** What the source calls. */
  readonly heard: (notice: N) => void;
}

/** The listeners of one handle to one kind of notices. */
export class NoticeListeners<N extends object> {
  readonly #source: () => NoticeSource<N> | undefined;
  #listeners: readonly Listener<N>[] = [];

  /** `source` is undefined in a thread that has not opened the cache: it gets no notices. */
  constructor(source: () => NoticeSource<N> | undefined) {
    this.#source = source;
  }

  add(listener: (notice: N) => void, once: boolean): void {
    if (typeof listener !== 'function') throw wrongType('listener', 'a function', listener);
    const source = this.#source();
    if (source === undefined) return;
    const added: Listener<N> = {
      listener,
      heard: (notice) => {
        // It may have been removed while the notice was on its way.
        if (!this.#listeners.includes(added)) return;
        if (once) this.#remove(added);
        listener(report(notice));
      },
    };
    this.#listeners = [...this.#listeners, added];
    source.listen(added.heard);
  }

  /** If a listener was added twice, the later one. */
  remove(listener: (notice: N) => void): void {
    const found = this.#listeners.findLast((each) => each.listener === listener);
    if (found !== undefined) this.#remove(found);
  }

  /** The handle is about to be closed. */
  close(): void {
    for (const each of this.#listeners) this.#remove(each);
  }

  #remove(listener: Listener<N>): void {
    this.#listeners = this.#listeners.filter((other) => other !== listener);
    this.#source()?.unlisten(listener.heard);
  }
}
