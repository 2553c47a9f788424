/**
 * The scribe's services in a thread that has attached to the cache: commands go to the scribe's thread over a channel
 * that all threads of the process share, and answers come back over it.
 *
 * This thread does not hear that the scribe has died. The next scribe says hello, and gets the open commands again. The
 * end of the cache is a change of its state, which wakes this thread.
 */
import { randomUUID } from 'node:crypto';
import { BroadcastChannel } from 'node:worker_threads';
import { CairnError } from '../errors.ts';
import { type Looker, lookers } from '../native/wake.ts';
import { type FeedHandle, FeedState } from '../native.ts';
import { type Question, ScribeCommands } from './commands.ts';
import { type Command, errorFrom, type PlainError, type Report } from './message.ts';
import { Unanswered } from './unanswered.ts';

/** What goes over the channel. */
export type ChannelMessage =
  | { readonly kind: 'ask'; readonly from: string; readonly command: Command }
  | { readonly kind: 'answer'; readonly to: string; readonly report: Extract<Report, { kind: 'done' }> }
  /** A scribe begins: threads send their open commands again. */
  | { readonly kind: 'hello' }
  /** There will be none any more. */
  | { readonly kind: 'failed'; readonly error: PlainError };

export function channelName(cacheId: number): string {
  return `cairn log ${cacheId}`;
}

export function messageOf(event: unknown): ChannelMessage {
  return (event as { data: ChannelMessage }).data;
}

/** Of one handle. */
export class RemoteScribe extends ScribeCommands implements Looker {
  readonly #handle: FeedHandle;
  readonly #from = randomUUID();
  readonly #unanswered = new Unanswered<Command>();
  #channel: BroadcastChannel | undefined;
  #ids = 0;

  constructor(handle: FeedHandle) {
    super(handle);
    this.#handle = handle;
  }

  protected override ask(question: Question, signal?: AbortSignal): Promise<unknown> {
    const command: Command = { ...question, id: ++this.#ids };
    if (this.#unanswered.count === 0) this.#open();
    const answer = this.#unanswered.add(command, signal, () => this.#closeIfIdle());
    this.#send(command);
    // It may have ended before we watched.
    this.look();
    return answer;
  }

  #open(): void {
    const channel = new BroadcastChannel(channelName(this.#handle.cacheId));
    channel.onmessage = (event) => this.#onMessage(messageOf(event));
    this.#channel = channel;
    lookers.add(this);
    this.#handle.watchCommits();
  }

  #send(command: Command): void {
    this.#channel?.postMessage({ kind: 'ask', from: this.#from, command } satisfies ChannelMessage);
    this.#handle.poke();
  }

  #onMessage(message: ChannelMessage): void {
    if (message.kind === 'hello') {
      for (const command of this.#unanswered.commands()) this.#send(command);
    } else if (message.kind === 'failed') {
      this.#rejectAll(errorFrom(message.error));
    } else if (message.kind === 'answer' && message.to === this.#from) {
      this.#unanswered.settle(message.report);
      this.#closeIfIdle();
    }
  }

  /** The handle is closed. */
  close(): void {
    this.#rejectAll(closed());
  }

  look(): void {
    if (this.#unanswered.count === 0) return;
    this.#handle.watchCommits();
    if (this.#handle.feedState() !== FeedState.closed) return;
    this.#rejectAll(closed());
  }

  #rejectAll(error: Error): void {
    this.#unanswered.rejectAll(error);
    this.#closeIfIdle();
  }

  // The channel keeps the thread alive while a command is open.
  #closeIfIdle(): void {
    if (this.#unanswered.count > 0) return;
    lookers.delete(this);
    this.#channel?.close();
    this.#channel = undefined;
  }
}

function closed(): CairnError {
  return new CairnError('ERR_CLOSED', 'The cache was closed');
}
