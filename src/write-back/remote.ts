/**
 * Write-back in threads that have attached to the cache: what they ask goes to the keeper's thread over a channel that
 * all threads of the process share, and answers come back over it.
 *
 * The keeper says hello when it begins, and gets what was asked before. What is asked after its end is refused at the
 * end of the cache, which is a change of the log's state and wakes this thread.
 */
import { randomUUID } from 'node:crypto';
import { BroadcastChannel } from 'node:worker_threads';
import type { KeptDeadLetter, RefusedKey } from '../backend/index.ts';
import { CairnError } from '../errors.ts';
import { type Looker, lookers } from '../native/wake.ts';
import { type FeedHandle, FeedState } from '../native.ts';
import { type Answer, errorFrom, type PlainError, plainError, Unanswered } from '../scribe/index.ts';
import type { RetriedDeadLetter } from './letter-retry.ts';

/** What can be asked of write-back from any thread. `store`: the name of one of the databases. */
export interface WriteBackActions {
  /** Resolves when the database has everything that was done so far. `signal`: the caller no longer waits. */
  drain(signal?: AbortSignal): Promise<void>;
  /** Resolves when nothing more is written until `resume()`. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** The oldest `limit` dead letters whose id is above `after`. */
  deadLetters(limit: number, after: bigint, store: string): Promise<readonly KeptDeadLetter[]>;
  /** The first that is found of some keys with a dead letter that is not superseded; undefined: none has one. */
  refusedKey(keys: readonly Uint8Array[], store: string): Promise<RefusedKey | undefined>;
  /** Removes dead letters; the number of those that there were. */
  dropDeadLetters(ids: readonly bigint[], store: string): Promise<number>;
  /** Makes the changes of dead letters again: letter-retry.ts. */
  retryDeadLetters(ids: readonly bigint[] | 'all', store: string): Promise<readonly RetriedDeadLetter[]>;
}

type Action = keyof WriteBackActions;

interface Ask {
  readonly kind: 'ask';
  readonly from: string;
  readonly id: number;
  readonly action: Action;
  readonly given: readonly unknown[];
}

type Message =
  | Ask
  /** An answer is not awaited any more. */
  | { readonly kind: 'cancel'; readonly from: string; readonly id: number }
  | ({ readonly kind: 'answer'; readonly to: string } & Answer)
  /** A keeper begins: threads send again what has no answer. */
  | { readonly kind: 'hello' }
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
      change: 'value' in change ? { ...change, key, value: Buffer.from(change.value) } : { ...change, key },
    };
  });
}

/** The same of a refused key. */
export function refusedFrom(cloned: unknown): RefusedKey | undefined {
  const refused = cloned as RefusedKey | undefined;
  return refused && { ...refused, key: Buffer.from(refused.key) };
}

/** Answers other threads in the keeper's. Does not keep its thread alive. */
export class WriteBackHost {
  readonly #actions: WriteBackActions;
  readonly #channel: BroadcastChannel;
  /** Drains that are awaited, by who asked and the number of what was asked. */
  readonly #drains = new Map<string, AbortController>();
  #isClosed = false;

  constructor(cacheId: number, actions: WriteBackActions) {
    this.#actions = actions;
    this.#channel = openChannel(cacheId, (message) => {
      if (message.kind === 'ask') this.#serve(message);
      else if (message.kind === 'cancel') this.#drains.get(`${message.from} ${message.id}`)?.abort();
    });
    this.#channel.unref();
    this.#channel.postMessage({ kind: 'hello' } satisfies Message);
  }

  #serve(ask: Ask): void {
    const answer = (result: unknown, error?: PlainError): void => {
      // The asker has been told of the end.
      if (this.#isClosed) return;
      this.#channel.postMessage({ kind: 'answer', to: ask.from, id: ask.id, result, error } satisfies Message);
    };
    this.#act(ask)
      .then(answer)
      .catch((error) => answer(undefined, plainError(error)));
  }

  async #act({ from, id, action, given }: Ask): Promise<unknown> {
    if (action !== 'drain') {
      const act = this.#actions[action] as (...given: readonly unknown[]) => Promise<unknown>;
      return act.apply(this.#actions, [...given]);
    }
    const name = `${from} ${id}`;
    const controller = new AbortController();
    this.#drains.set(name, controller);
    try {
      return await this.#actions.drain(controller.signal);
    } finally {
      this.#drains.delete(name);
    }
  }

  close(error: Error): void {
    this.#isClosed = true;
    this.#channel.postMessage({ kind: 'closed', error: plainError(error) } satisfies Message);
    this.#channel.close();
  }
}

/** Of one handle in another thread. Keeps it alive while an answer is awaited. */
export class RemoteWriteBack implements WriteBackActions, Looker {
  readonly #handle: FeedHandle;
  readonly #from = randomUUID();
  readonly #unanswered = new Unanswered<Ask>();
  #channel: BroadcastChannel | undefined;
  #ids = 0;

  constructor(handle: FeedHandle) {
    this.#handle = handle;
  }

  async drain(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    await this.#ask('drain', [], signal);
  }

  async pause(): Promise<void> {
    await this.#ask('pause');
  }

  async resume(): Promise<void> {
    await this.#ask('resume');
  }

  async deadLetters(limit: number, after: bigint, store: string): Promise<readonly KeptDeadLetter[]> {
    return keptFrom(await this.#ask('deadLetters', [limit, after, store]));
  }

  async refusedKey(keys: readonly Uint8Array[], store: string): Promise<RefusedKey | undefined> {
    return refusedFrom(await this.#ask('refusedKey', [keys, store]));
  }

  async dropDeadLetters(ids: readonly bigint[], store: string): Promise<number> {
    return (await this.#ask('dropDeadLetters', [ids, store])) as number;
  }

  async retryDeadLetters(ids: readonly bigint[] | 'all', store: string): Promise<readonly RetriedDeadLetter[]> {
    return (await this.#ask('retryDeadLetters', [ids, store])) as readonly RetriedDeadLetter[];
  }

  /** The handle is closed. */
  close(error: Error): void {
    this.#unanswered.rejectAll(error);
    this.#closeIfIdle();
  }

  look(): void {
    if (this.#unanswered.count === 0) return;
    this.#handle.watchCommits();
    if (this.#handle.feedState() === FeedState.closed) this.close(new CairnError('ERR_CLOSED', 'The cache was closed'));
  }

  #ask(action: Action, given: readonly unknown[] = [], signal?: AbortSignal): Promise<unknown> {
    this.#open();
    const id = ++this.#ids;
    const ask: Ask = { kind: 'ask', from: this.#from, id, action, given };
    const answer = this.#unanswered.add(ask, signal, () => {
      this.#send({ kind: 'cancel', from: this.#from, id });
      this.#closeIfIdle();
    });
    this.#send(ask);
    // The cache may have ended before we watched.
    this.look();
    return answer;
  }

  #open(): void {
    if (this.#channel !== undefined) return;
    this.#channel = openChannel(this.#handle.cacheId, (message) => this.#hear(message));
    lookers.add(this);
    this.#handle.watchCommits();
  }

  #send(message: Message): void {
    this.#channel?.postMessage(message);
  }

  #hear(message: Message): void {
    if (message.kind === 'hello') {
      for (const ask of this.#unanswered.commands()) this.#send(ask);
    } else if (message.kind === 'closed') {
      this.close(errorFrom(message.error));
    } else if (message.kind === 'answer' && message.to === this.#from) {
      this.#unanswered.settle(message);
      this.#closeIfIdle();
    }
  }

  #closeIfIdle(): void {
    if (this.#unanswered.count > 0) return;
    lookers.delete(this);
    this.#channel?.close();
    this.#channel = undefined;
  }
}
