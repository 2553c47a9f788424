/**
 * First in, first out, in a ring that doubles when it is full: push and shift cost the same at every length, and a
 * freed slot keeps no reference. The Admission in front of it limits its length.
 */
export class Fifo<T> {
  #slots: (T | undefined)[] = new Array<T | undefined>(4).fill(undefined);
  #first = 0;
  #count = 0;

  get length(): number {
    return this.#count;
  }

  push(item: T): void {
    if (this.#count === this.#slots.length) this.#grow();
    this.#slots[(this.#first + this.#count) & (this.#slots.length - 1)] = item;
    this.#count++;
  }

  /** The item that shift() would return; it stays. */
  peek(): T | undefined {
    return this.#slots[this.#first];
  }

  shift(): T | undefined {
    if (this.#count === 0) return undefined;
    const item = this.#slots[this.#first];
    this.#slots[this.#first] = undefined;
    this.#first = (this.#first + 1) & (this.#slots.length - 1);
    this.#count--;
    return item;
  }

  // A power of two, so that positions wrap with a mask.
  #grow(): void {
    const slots = new Array<T | undefined>(this.#slots.length * 2).fill(undefined);
    for (let i = 0; i < this.#count; i++) slots[i] = this.#slots[(this.#first + i) & (this.#slots.length - 1)];
    this.#slots = slots;
    this.#first = 0;
  }
}
