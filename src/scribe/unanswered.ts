/** Commands to the scribe whose answers have not come: each by its id, with the promise of the answer. */
import { type Command, errorFrom, type Report } from './message.ts';

interface Asked {
  readonly command: Command;
  resolve(result: unknown): void;
  reject(error: Error): void;
}

export class Unanswered {
  readonly #asked = new Map<number, Asked>();

  get count(): number {
    return this.#asked.size;
  }

  /** The commands, for another scribe, which has to be asked again. */
  commands(): Command[] {
    return Array.from(this.#asked.values(), ({ command }) => command);
  }

  /** Gives the promise of the answer. The caller sends the command. */
  add(command: Command): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#asked.set(command.id, { command, resolve, reject });
    });
  }

  /** An answer; one that was not asked for, or came twice, is ignored. */
  settle({ id, result, error }: Extract<Report, { kind: 'done' }>): void {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    if (error === undefined) asked?.resolve(result);
    else asked?.reject(errorFrom(error));
  }

  rejectAll(error: Error): void {
    for (const { reject } of this.#asked.values()) reject(error);
    this.#asked.clear();
  }
}
