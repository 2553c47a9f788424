import { expect, test } from 'vitest';
import { Fifo } from '../../src/queue/index.ts';
import { withRandom } from '../support/random.ts';

test('an empty one gives nothing', () => {
  const fifo = new Fifo<number>();
  expect(fifo.length).toBe(0);
  expect(fifo.peek()).toBeUndefined();
  expect(fifo.shift()).toBeUndefined();
  expect(fifo.length).toBe(0);
});

test('items come out in the order in which they went in, however it grows and wraps', () => {
  withRandom((random) => {
    const fifo = new Fifo<number>();
    const model: number[] = [];
    for (let i = 0; i < 20_000; i++) {
      // Phases of growing and of shrinking, so that it both grows and runs empty.
      const grows = random.below(100) < (Math.floor(i / 500) % 2 === 0 ? 70 : 30);
      if (grows) {
        fifo.push(i);
        model.push(i);
      } else {
        expect(fifo.shift()).toBe(model.shift());
      }
      expect(fifo.length).toBe(model.length);
      expect(fifo.peek()).toBe(model[0]);
    }
  });
});
