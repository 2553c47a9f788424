/**
 * Where the scribe hears commands: from its keeper over the port of its thread, and over the channel from threads that
 * have attached to the cache (remote.ts). Answers go back the same way.
 */
import { BroadcastChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { Report, Told } from './message.ts';
import { type ChannelMessage, channelName } from './remote.ts';

export class Hearing {
  readonly #port: MessagePort;
  readonly #channel: BroadcastChannel;
  /** Threads that have asked over the channel. The scribe gets these commands under negative numbers. */
  readonly #asked = new Map<number, { from: string; id: number }>();
  #count = 0;

  constructor(port: MessagePort, cacheId: number) {
    this.#port = port;
    this.#channel = new BroadcastChannel(channelName(cacheId));
  }

  /** Tells threads that have asked an earlier scribe that there is a new one. */
  hello(): void {
    this.#post({ kind: 'hello' });
  }

  /** The next of what the scribe is told, if there is any. */
  hear(): Told | undefined {
    const own = receiveMessageOnPort(this.#port);
    if (own !== undefined) return own.message as Told;
    for (;;) {
      const other = receiveMessageOnPort(this.#channel as unknown as MessagePort);
      if (other === undefined) return undefined;
      const message = other.message as ChannelMessage;
      if (message.kind !== 'ask') continue;
      const id = -++this.#count;
      this.#asked.set(id, { from: message.from, id: message.command.id });
      return { ...message.command, id };
    }
  }

  say(report: Report): void {
    const asked = report.kind === 'done' ? this.#asked.get(report.id) : undefined;
    if (asked === undefined || report.kind !== 'done') {
      this.#port.postMessage(report);
      return;
    }
    this.#asked.delete(report.id);
    this.#post({ kind: 'answer', to: asked.from, report: { ...report, id: asked.id } });
  }

  close(): void {
    this.#channel.close();
  }

  #post(message: ChannelMessage): void {
    this.#channel.postMessage(message);
  }
}
