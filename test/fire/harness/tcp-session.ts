// A memcached client that asks what histories are made of, pipelined, and gives the answers in their terms.

import { connect, type Socket } from 'node:net';
import type { Answer, Operation } from '../../support/history.ts';
import { spell, unspell } from './workload.ts';

interface Waiting {
  readonly operation: Operation;
  /** What a retrieval has been told before its END. */
  hit?: { value: string; version: bigint };
}

/** Tells an answer, at the moment it has come. */
export type OnAnswer = (operation: Operation, answer: Answer) => void;

export class TcpSession {
  readonly #socket: Socket;
  readonly #onAnswer: OnAnswer;
  #waiting: Waiting[] = [];
  #bytes: Buffer = Buffer.alloc(0);
  #isClosed = false;
  #wake: (() => void) | undefined;
  /** An answer that was not expected, which no history can hold. */
  failure: Error | undefined;

  private constructor(socket: Socket, onAnswer: OnAnswer) {
    this.#socket = socket;
    this.#onAnswer = onAnswer;
    socket.on('data', (chunk: Buffer) => {
      this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
      try {
        while (this.#takeReply());
      } catch (error) {
        this.failure = error as Error;
        socket.destroy();
      }
      if (this.#waiting.length === 0) this.#wake?.();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#isClosed = true;
      this.#wake?.();
    });
  }

  /** Rejects if no server listens there. */
  static open(port: number, onAnswer: OnAnswer): Promise<TcpSession> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port, noDelay: true }, () => {
        socket.off('error', reject);
        resolve(new TcpSession(socket, onAnswer));
      });
      socket.once('error', reject);
    });
  }

  get isOpen(): boolean {
    return !this.#isClosed;
  }

  /** Sends all in one piece; resolves when each has its answer or the connection is gone: then false. */
  async ask(operations: readonly Operation[]): Promise<boolean> {
    if (this.#isClosed) return false;
    for (const operation of operations) if (!operation.isQuiet) this.#waiting.push({ operation });
    this.#socket.write(operations.map(command).join(''), 'latin1');
    while (this.#waiting.length > 0 && !this.#isClosed) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#waiting.length === 0;
  }

  close(): void {
    this.#socket.destroy();
  }

  // Takes one line, or one value, from what has come; false if there is none whole.
  #takeReply(): boolean {
    const [waiting] = this.#waiting;
    if (waiting === undefined) return false;
    const end = this.#bytes.indexOf('\r\n');
    if (end < 0) return false;
    const line = this.#bytes.toString('latin1', 0, end);
    const value = /^VALUE \S+ \d+ (\d+) (\d+)$/.exec(line);
    if (value !== null) {
      const start = end + 2;
      const bytes = Number(value[1]);
      if (this.#bytes.length < start + bytes + 2) return false;
      const text = this.#bytes.toString('latin1', start, start + bytes);
      waiting.hit = { value: unspell(text), version: BigInt(value[2]!) };
      this.#bytes = this.#bytes.subarray(start + bytes + 2);
      return true;
    }
    this.#bytes = this.#bytes.subarray(end + 2);
    this.#waiting.shift();
    this.#onAnswer(waiting.operation, answerOf(waiting, line));
    return true;
  }
}

function command({ verb, key, value, delta, token, ttlMs, isQuiet }: Operation): string {
  const seconds = Math.round((ttlMs ?? 0) / 1000);
  const quietly = isQuiet ? ' noreply' : '';
  const data = (text: string, more = ''): string =>
    `${verb} ${key} 0 ${seconds} ${text.length}${more}${quietly}\r\n${text}\r\n`;
  switch (verb) {
    case 'get':
      return `gets ${key}\r\n`;
    case 'gat':
      return `gats ${seconds} ${key}\r\n`;
    case 'set':
    case 'add':
    case 'replace':
    case 'append':
    case 'prepend':
      return data(spell(value!));
    case 'cas':
      return data(spell(value!), ` ${token}`);
    case 'incr':
    case 'decr':
      return `${verb} ${key} ${delta}${quietly}\r\n`;
    case 'delete':
      return `delete ${key}${quietly}\r\n`;
    case 'touch':
      return `touch ${key} ${seconds}${quietly}\r\n`;
    case 'clear':
      return `flush_all${quietly}\r\n`;
    case 'take':
      throw new Error('The text protocol has no take');
  }
}

const LINES: Readonly<Record<string, Answer>> = {
  END: 'miss',
  STORED: 'stored',
  NOT_STORED: 'not-stored',
  EXISTS: 'exists',
  NOT_FOUND: 'not-found',
  DELETED: 'found',
  TOUCHED: 'found',
  OK: 'done',
  'CLIENT_ERROR cannot increment or decrement non-numeric value': 'not-stored',
  'SERVER_ERROR out of memory storing object': 'dropped',
};

function answerOf({ operation, hit }: Waiting, line: string): Answer {
  if (hit !== undefined && line === 'END') return hit;
  const answer = LINES[line];
  if (answer !== undefined) return answer;
  if (/^\d+ *$/.test(line)) return { value: line };
  // The log takes no more: nothing was done.
  if (/^SERVER_ERROR .*log/i.test(line)) return 'refused';
  throw new Error(
    `Expected an answer to ${operation.verb} ${operation.key}, got ${JSON.stringify(line.slice(0, 200))}`,
  );
}
