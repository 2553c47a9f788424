// Clients of the port that ask as fast as they are answered, each a few things at a time. A client that waits too long
// goes away, as clients do, and another comes in its place: the outcome of its open requests is then unknown.

import type { Question, Recorder } from '../../support/history.ts';
import { Random } from '../../support/random.ts';
import { TcpSession } from './tcp-session.ts';
import { Workload, type WorkloadOptions } from './workload.ts';

/** How long a client waits for the answers to what it has sent. */
const PATIENCE_MS = 1500;

export interface TcpLoadOptions {
  readonly port: number;
  readonly connections: number;
  /** Requests of a connection that are unanswered, at most. */
  readonly depth: number;
  readonly workload: WorkloadOptions;
  readonly recorder: Recorder;
  readonly seed: number;
  /** A number for a session, another one each time. */
  readonly nextSession: () => number;
}

export class TcpLoad {
  readonly #options: TcpLoadOptions;
  readonly #random: Random;
  readonly #open = new Set<TcpSession>();
  readonly #clients: Promise<void>[];
  #isOver = false;
  #failure: Error | undefined;
  /** Answers so far. */
  answers = 0;

  constructor(options: TcpLoadOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#clients = Array.from({ length: options.connections }, () => this.#client());
  }

  /** An answer that is none. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Ends all connections with what is unanswered. Throws what was wrong. */
  async end(): Promise<void> {
    this.#isOver = true;
    for (const session of this.#open) session.close();
    await Promise.all(this.#clients);
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #client(): Promise<void> {
    while (!this.#isOver) {
      let session: TcpSession;
      try {
        session = await TcpSession.open(this.#options.port, (operation, answer) => {
          this.#options.recorder.answer(operation, answer);
          this.answers++;
        });
      } catch {
        // No server listens now, or at all any more.
        await new Promise((resolve) => setTimeout(resolve, 5));
        continue;
      }
      this.#open.add(session);
      await this.#talk(session);
      session.close();
      this.#open.delete(session);
      this.#failure ??= session.failure;
    }
  }

  async #talk(session: TcpSession): Promise<void> {
    const { recorder, depth, workload, nextSession } = this.#options;
    const number = nextSession();
    const random = new Random(this.#random.bits());
    const work = new Workload(random, `t${number}n`, workload);
    while (!this.#isOver && session.isOpen) {
      const asked = Array.from({ length: 1 + random.below(depth) }, () => recorder.ask(number, wordable(work, random)));
      const impatience = setTimeout(() => session.close(), PATIENCE_MS);
      await session.ask(asked);
      clearTimeout(impatience);
      for (const operation of asked) work.learn(operation);
    }
  }
}

/** Something that the text protocol has words for; now and then without wanting an answer. */
function wordable(work: Workload, random: Random): Question {
  const question = work.next();
  if (question.verb === 'take') return { ...question, verb: 'delete' };
  if (question.verb === 'get' || question.verb === 'gat' || random.below(30) > 0) return question;
  return { ...question, isQuiet: true };
}
