/**
 * Write-back in threads that have attached to the cache: what they ask goes to the keeper's thread over a channel that
 * all threads of the process share, and answers come back over it.
 */
import { randomUUID } from 'node:crypto';
import { BroadcastChannel } from 'node:worker_threads';
import type { KeptDeadLetter } from '../backend/index.ts';
import { errorFrom, type PlainError, plainError } from '../scribe/index.ts';

/** What can be asked of write-back from any thread. */
export interface WriteBackActions {
  /** Resolves when the database has everything that was done so far. */
  drain(): Promise<void>;
  /** Resolves when nothing more is written until `resume()`. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** The oldest `limit` dead letters whose id is above `after`. */
  deadLetters(limit: number, after: bigint): Promise<readonly KeptDeadLetter[]>;
  /** Removes dead letters; the number of those that there were. */
  dropDeadLetters(ids: readonly bigint[]): Promise<number>;
}

type Action = keyof WriteBackActions;

type Message =
  | {
      readonly kind: 'ask';
      readonly from: string;
      readonly id: number;
      readonly action: Action;
      readonly given: readonly unknown[];
    }
  | {
      readonly kind: 'answer';
      readonly to: string;
      readonly id: number;
      readonly result: unknown;
      readonly error: PlainError | undefined;
    }
  /** The cache was closed: there is no answer any more. */
  | { readonly kind: 'closed'; readonly error: PlainError };

function openChannel(cacheId: number, hear: (message: Message) => void): BroadcastChannel {
  const channel = new BroadcastChannel(`cairn write-back ${cacheId}`);
  channel.onmessage = (event) => hear((event as unknown as { data: Message }).data);
  return channel;
}

/** Dead letters that came from another thread: cloning has made arrays of their Buffers. */
export function keptFrom(cloned: unknown): readonly KeptDeadLetter[] {
  return (cloned as readonly KeptDeadLetter[]).map((letter) => {
    const { change } = letter;
    const key = Buffer.from(change.key);
    return {
      ...letter,
      change: change.kind === 'set' ? { ...change, key, value: Buffer.from(change.value) } : { ...change, key },
    };
  });
}

/** Answers other threads in the keeper's. Does not keep its thread alive. */
export class WriteBackHost {
  readonly #channel: BroadcastChannel;

  constructor(cacheId: number, actions: WriteBackActions) {
    this.#channel = openChannel(cacheId, (message) => {
      if (message.kind !== 'ask') return;
      const { from, id, action, given } = message;
      const answer = (result: unknown, error?: PlainError): void => {
        this.#channel.postMessage({ kind: 'answer', to: from, id, result, error } satisfies Message);
      };
      const act = actions[action] as (...given: readonly unknown[]) => Promise<unknown>;
      act.apply(actions, [...given]).then(answer, (error) => answer(undefined, plainError(error)));
    });
    this.#channel.unref();
  }

  close(error: Error): void {
    this.#channel.postMessage({ kind: 'closed', error: plainError(error) } satisfies Message);
    this.#channel.close();
  }
}

interface Asked {
  resolve(result: unknown): void;
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

  async drain(): Promise<void> {
    await this.#ask('drain');
  }

  async pause(): Promise<void> {
    await this.#ask('pause');
  }

  async resume(): Promise<void> {
    await this.#ask('resume');
  }

  async deadLetters(limit: number, after: bigint): Promise<readonly KeptDeadLetter[]> {
    return keptFrom(await this.#ask('deadLetters', limit, after));
  }

  async dropDeadLetters(ids: readonly bigint[]): Promise<number> {
    return (await this.#ask('dropDeadLetters', ids)) as number;
  }

  /** The handle is closed. */
  close(error: Error): void {
    for (const { reject } of this.#asked.values()) reject(error);
    this.#asked.clear();
    this.#closeIfIdle();
  }

  #ask(action: Action, ...given: unknown[]): Promise<unknown> {
    this.#channel ??= openChannel(this.#cacheId, (message) => this.#hear(message));
    const id = ++this.#ids;
    const answer = new Promise((resolve, reject) => this.#asked.set(id, { resolve, reject }));
    this.#channel.postMessage({ kind: 'ask', from: this.#from, id, action, given } satisfies Message);
    return answer;
  }

  #hear(message: Message): void {
    if (message.kind === 'closed') this.close(errorFrom(message.error));
    else if (message.kind === 'answer' && message.to === this.#from) {
      const asked = this.#asked.get(message.id);
      this.#asked.delete(message.id);
      if (message.error === undefined) asked?.resolve(message.result);
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
