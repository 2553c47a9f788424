/** Something has changed: every part that waits looks again. */
export class Changed {
  #waiting: (() => void)[] = [];

  notify(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  wait(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
}
