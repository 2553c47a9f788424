// A history that outlives the process that writes it: lines in a file, written before an operation is done and after
// its answer, by synchronous calls, so that the end of the process takes none of them.

import { readFileSync, writeSync } from 'node:fs';
import { type Answer, type Operation, type Question, timeNow } from '../../support/history.ts';

type Line =
  | { readonly ask: number; readonly operation: Operation }
  | { readonly answer: number; readonly at: number; readonly as: Answer };

const BIGINTS: ReadonlySet<string> = new Set(['version', 'token', 'delta']);

const toText = (value: unknown): string =>
  JSON.stringify(value, (_, each) => (typeof each === 'bigint' ? String(each) : each));
const fromText = (text: string): unknown =>
  JSON.parse(text, (name, each) => (BIGINTS.has(name) && typeof each === 'string' ? BigInt(each) : each));

export class HistoryWriter {
  readonly #descriptor: number;
  readonly #life: number;
  #count = 0;

  constructor(descriptor: number, life: number) {
    this.#descriptor = descriptor;
    this.#life = life;
  }

  /** Writes down what one session is about to ask, in this order. */
  ask(session: number, questions: readonly Question[]): { operation: Operation; number: number }[] {
    const askedAt = timeNow();
    const asked = questions.map((question) => ({
      operation: { ...question, session, life: this.#life, askedAt },
      number: this.#count++,
    }));
    this.#write(asked.map(({ operation, number }) => ({ ask: number, operation })));
    return asked;
  }

  answer(answers: readonly { number: number; answer: Answer }[]): void {
    const at = timeNow();
    this.#write(answers.map(({ number, answer }) => ({ answer: number, at, as: answer })));
  }

  #write(lines: readonly Line[]): void {
    writeSync(this.#descriptor, lines.map((line) => `${toText(line)}\n`).join(''));
  }
}

/** What a writer had written when it ended; half a line at the end is none. */
export function readHistory(file: string): Operation[] {
  const operations: Operation[] = [];
  const text = readFileSync(file, 'utf8');
  for (const each of text.slice(0, text.lastIndexOf('\n') + 1).split('\n')) {
    if (each === '') continue;
    const line = fromText(each) as Line;
    if ('ask' in line) operations[line.ask] = line.operation;
    else Object.assign(operations[line.answer]!, { answeredAt: line.at, answer: line.as });
  }
  return operations;
}
