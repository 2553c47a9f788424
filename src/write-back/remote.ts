/**
 * Write-back in threads that have attached to the cache: what they ask goes to the keeper's thread over a channel that
 * all threads of the process share, and answers come back over it.
 */
import { randomUUID } from 'node:crypto';
import { BroadcastChannel } from 'node:worker_threads';
import { errorFrom, type PlainError, plainError } from '../scribe/index.ts';

/** What can be asked of write-back from any thread. */
export interface WriteBackActions {
  /** Resolves when the database has everything that was done so far. */
  drain(): Promise<void>;
  /** Resolves when nothing more is written until `resume()`. */
  pause(): Promise<void>;
  resume(): Promise<void>;
}

type Message =
  | { readonly kind: 'ask'; readonly from: string; readonly id: number; readonly action: keyof WriteBackActions }
  | { readonly kind: 'answer'; readonly to: string; readonly id: number; readonly error: PlainError | undefined }
  /** The cache was closed: there is no answer any more. */
  | { readonly kind: 'closed'; readonly error: PlainError };

function openChannel(cacheId: number, hear: (message: Message) => void): BroadcastChannel {
  const channel = new BroadcastChannel(`cairn write-back ${cacheId}`);
  channel.onmessage = (event) => hear((event as unknown as { data: Message }).data);
  return channel;
}

/** Answers other threads in the keeper's. Does not keep its thread alive. */
export class WriteBackHost {
  readonly #channel: BroadcastChannel;

  constructor(cacheId: number, actions: WriteBackActions) {
    this.#channel = openChannel(cacheId, (message) => {
      if (message.kind !== 'ask') return;
      const { from, id, action } = message;
      const answer = (error: PlainError | undefined): void => {
        this.#channel.postMessage({ kind: 'answer', to: from, id, error } satisfies Message);
      };
      actions[action]().then(
        () => answer(undefined),
        (error) => answer(plainError(error)),
      );
    });
    this.#channel.unref();
  }

  close(error: Error): void {
    this.#channel.postMessage({ kind: 'closed', error: plainError(error) } satisfies Message);
    this.#channel.close();
  }
}

interface Asked {
  resolve(): void;
  reject(error: Error): void;
}

/** Of one handle in another thread. Keeps it alive while an answer is awaited. */
export class RemoteWriteBack implements WriteBackActions {
  readonly #cacheId: number;
  readonly #from = randomUUID();
  readonly #asked = new Map<number, Asked>();
  #channel: BroadcastChannel | undefined;
  #ids = 0;

  constructor(cacheId: number) {
    this.#cacheId = cacheId;
  }

  drain(): Promise<void> {
    return this.#ask('drain');
  }

  pause(): Promise<void> {
    return this.#ask('pause');
  }

  resume(): Promise<void> {
    return this.#ask('resume');
  }

  /** The handle is closed. */
  close(error: Error): void {
    for (const { reject } of this.#asked.values()) reject(error);
    this.#asked.clear();
    this.#closeIfIdle();
  }

  #ask(action: keyof WriteBackActions): Promise<void> {
    this.#channel ??= openChannel(this.#cacheId, (message) => this.#hear(message));
    const id = ++this.#ids;
    const answer = new Promise<void>((resolve, reject) => this.#asked.set(id, { resolve, reject }));
    this.#channel.postMessage({ kind: 'ask', from: this.#from, id, action } satisfies Message);
    return answer;
  }

  #hear(message: Message): void {
    if (message.kind === 'closed') this.close(errorFrom(message.error));
    else if (message.kind === 'answer' && message.to === this.#from) {
      const asked = this.#asked.get(message.id);
      this.#asked.delete(message.id);
      if (message.error === undefined) asked?.resolve();
      else asked?.reject(errorFrom(message.error));
      this.#closeIfIdle();
    }
  }

  #closeIfIdle(): void {
    if (this.#asked.size > 0) return;
    this.#channel?.close();
    this.#channel = undefined;
  }
}
