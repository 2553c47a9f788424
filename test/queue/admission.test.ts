import { expect, test } from 'vitest';
import { Admission } from '../../src/queue/index.ts';

/** An admission and the number of times that it drained. */
function admission(requestsMax: number, bytesMax = 1000): { queue: Admission; drains: () => number } {
  let drains = 0;
  const queue = new Admission({ requestsMax, bytesMax }, () => drains++);
  return { queue, drains: () => drains };
}

/** Lets the reactions of promises run. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  void promise.then(() => {
    settled = true;
  });
  await turn();
  return settled;
}

test('lets in as many requests as its bound says and refuses the next', () => {
  const { queue } = admission(3);
  expect([queue.enter(1), queue.enter(1), queue.enter(1), queue.enter(1)]).toEqual([true, true, true, false]);
  expect(queue.requestCount).toBe(3);
});

test('a call enters as a whole or not at all', () => {
  const { queue } = admission(10);
  expect(queue.enter(8)).toBe(true);
  expect(queue.enter(3)).toBe(false);
  expect(queue.requestCount).toBe(8);
  expect(queue.enter(2)).toBe(true);
});

test('refuses when the bytes have reached their bound, whatever the number of requests', () => {
  const { queue } = admission(10, 100);
  queue.enter(1);
  queue.addBytes(99);
  expect(queue.enter(1)).toBe(true);
  queue.addBytes(500); // the call that passes the bound is let in
  expect(queue.enter(1)).toBe(false);
  expect(queue.bytes).toBe(599);
});

test('a call of any size enters an empty queue', () => {
  const { queue } = admission(2);
  expect(queue.enter(50)).toBe(true);
  expect(queue.enter(1)).toBe(false);
  queue.leave(50, 0);
  expect(queue.requestCount).toBe(0);
  expect(queue.enter(1)).toBe(true);
});

test('drains once after a refusal, when half of both bounds is free', () => {
  const { queue, drains } = admission(4, 100);
  for (let i = 0; i < 4; i++) queue.enter(1);
  queue.addBytes(90);
  queue.enter(1);
  queue.enter(1);
  queue.leave(1, 0);
  queue.leave(1, 0);
  expect(drains()).toBe(0); // half of the requests, but 90 bytes
  queue.leave(1, 40);
  expect(drains()).toBe(1);
  queue.leave(1, 50);
  expect(drains()).toBe(1);
});

test('does not drain when it has refused nothing', () => {
  const { queue, drains } = admission(4);
  for (let i = 0; i < 4; i++) queue.enter(1);
  queue.leave(4, 0);
  expect(drains()).toBe(0);
});

test('drains when the call that was refused would be let in, not before', () => {
  const { queue, drains } = admission(10);
  queue.enter(10);
  queue.enter(9);
  queue.leave(8, 0);
  expect(drains()).toBe(0); // two are left: nine would not fit
  queue.leave(1, 0);
  expect(drains()).toBe(1);
  expect(queue.enter(9)).toBe(true);
});

test('drains when it is empty, if a call larger than the queue was refused', () => {
  const { queue, drains } = admission(4);
  queue.enter(2);
  queue.enter(9);
  queue.leave(1, 0);
  expect(drains()).toBe(0);
  queue.leave(1, 0);
  expect(drains()).toBe(1);
  expect(queue.enter(9)).toBe(true);
});

test('a large call that was refused does not make later ones wait for longer', () => {
  const { queue, drains } = admission(10);
  queue.enter(1);
  queue.enter(10);
  queue.leave(1, 0);
  expect(drains()).toBe(1);
  queue.enter(10);
  queue.enter(1);
  queue.leave(4, 0);
  expect(drains()).toBe(1);
  queue.leave(1, 0);
  expect(drains()).toBe(2);
});

test('drained() resolves at once while there is room, else with the drain, for all who wait', async () => {
  const { queue } = admission(4);
  expect(await isSettled(queue.drained())).toBe(true);
  for (let i = 0; i < 4; i++) queue.enter(1);
  const first = queue.drained();
  const second = queue.drained();
  expect(await isSettled(first)).toBe(false);
  queue.leave(1, 0);
  expect(await isSettled(first)).toBe(false);
  queue.leave(1, 0);
  expect(await isSettled(first)).toBe(true);
  expect(await isSettled(second)).toBe(true);
});

test('drained() waits for a call that was refused, even if half of the queue is free', async () => {
  const { queue } = admission(10);
  queue.enter(2);
  queue.enter(9);
  const drained = queue.drained();
  expect(await isSettled(drained)).toBe(false);
  queue.leave(1, 0);
  expect(await isSettled(drained)).toBe(true);
});
