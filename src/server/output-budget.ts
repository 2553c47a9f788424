/**
 * The budget of replies that clients of a front have not taken yet, of all together. Beyond it, clients are dropped
 * that have taken nothing for the longest time; the last one is left, because its session has its own limit.
 */

/** What a budget does to its front. */
export interface BudgetOwner<Client> {
  /** The bytes for one client, before and now. */
  changed(before: number, now: number): void;
  /** Closes the connection of the client, whose bytes are no longer counted. */
  drop(client: Client): void;
}

export class OutputBudget<Client> {
  readonly #owner: BudgetOwner<Client>;
  readonly #bytesMax: number;
  /** Clients with replies to take: first the one that has taken nothing for the longest time. */
  readonly #bytes = new Map<Client, number>();
  #total = 0;

  constructor(owner: BudgetOwner<Client>, bytesMax: number) {
    this.#owner = owner;
    this.#bytesMax = bytesMax;
  }

  /** The client has still to take these bytes; `hasTaken`: it has taken some since it was last counted. */
  count(client: Client, bytes: number, hasTaken: boolean): void {
    const before = this.#bytes.get(client) ?? 0;
    if (hasTaken || bytes === 0) this.#bytes.delete(client);
    if (bytes > 0) this.#bytes.set(client, bytes);
    if (bytes === before) return;
    this.#total += bytes - before;
    this.#owner.changed(before, bytes);
    if (bytes > before) this.#keep();
  }

  #keep(): void {
    for (const client of this.#bytes.keys()) {
      if (this.#total <= this.#bytesMax || this.#bytes.size <= 1) return;
      this.count(client, 0, true);
      this.#owner.drop(client);
    }
  }
}
