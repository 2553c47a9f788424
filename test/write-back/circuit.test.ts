import { expect, test } from 'vitest';
import { RETRY_MS_FIRST, RETRY_MS_MAX } from '../../src/write-back/backoff.ts';
import { Circuit } from '../../src/write-back/circuit.ts';

class Clock {
  nowMs = 1000;
  steadyMs(): number {
    return this.nowMs;
  }
}

test('failures in a row open it, and one success closes it', () => {
  const clock = new Clock();
  const circuit = new Circuit({ clock, random: () => 0 });
  for (const why of ['a', 'b']) {
    expect(circuit.admits()).toBe(true);
    expect(circuit.failed(why)).toBe(false);
  }
  circuit.succeeded();
  for (const why of ['a', 'b']) expect(circuit.failed(why)).toBe(false);
  expect(circuit.failed('c')).toBe(true);
  expect([circuit.isOpen, circuit.admits(), circuit.why]).toEqual([true, false, 'c']);
  clock.nowMs += RETRY_MS_FIRST;
  expect([circuit.admits(), circuit.admits()], 'one question is let through').toEqual([true, false]);
  circuit.succeeded();
  expect([circuit.isOpen, circuit.admits()]).toEqual([false, true]);
});

test('each wait is longer, up to the longest', () => {
  const clock = new Clock();
  const circuit = new Circuit({ clock, random: () => 0 });
  for (let i = 0; i < 3; i++) circuit.failed('x');
  for (let waitMs = RETRY_MS_FIRST; waitMs < 20 * RETRY_MS_MAX; waitMs *= 2) {
    const wholeMs = Math.min(waitMs, RETRY_MS_MAX);
    clock.nowMs += wholeMs - 1;
    expect(circuit.admits(), `${wholeMs} ms`).toBe(false);
    clock.nowMs += 1;
    expect(circuit.admits()).toBe(true);
    expect(circuit.failed('x'), 'it was open').toBe(false);
  }
});
