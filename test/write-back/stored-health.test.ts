import { expect, test } from 'vitest';
import { StoredHealth } from '../../src/native.ts';
import { RowRate } from '../../src/write-back/row-rate.ts';
import { StoredHealthWatch } from '../../src/write-back/stored-health.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

function world(ackTimeoutMs = 1000) {
  const clock = new VirtualClock();
  const state = { health: StoredHealth.stopped as StoredHealth, isWanted: false };
  const handle = {
    setStoredHealth: (health: StoredHealth) => {
      state.health = health;
    },
    takeWanted: () => state.isWanted,
  };
  return { clock, state, watch: new StoredHealthWatch({ handle, clock, ackTimeoutMs }) };
}

test('a database is away when callers have waited without a confirmation for their time', async () => {
  const { clock, state, watch } = world();
  expect(state.health).toBe(StoredHealth.running);
  await clock.advance(5000);
  watch.look();
  state.isWanted = true;
  watch.look();
  await clock.advance(999);
  watch.look();
  expect(state.health).toBe(StoredHealth.running);
  await clock.advance(1);
  watch.look();
  expect(state.health).toBe(StoredHealth.away);
  watch.onCommitted();
  expect(state.health).toBe(StoredHealth.running);
});

test('each confirmation gives the time anew', async () => {
  const { clock, state, watch } = world();
  state.isWanted = true;
  for (let i = 0; i < 5; i++) {
    watch.look();
    await clock.advance(900);
    watch.look();
    watch.onCommitted();
  }
  expect(state.health).toBe(StoredHealth.running);
});

test('a confirmation of one lane does not give the time of another anew', async () => {
  const { clock, state, watch } = world();
  state.isWanted = true;
  const sendingSinceMs = clock.steadyMs();
  for (let i = 0; i < 4; i++) {
    await clock.advance(300);
    watch.onCommitted(sendingSinceMs);
    watch.look();
  }
  expect(state.health).toBe(StoredHealth.away);
  watch.onCommitted(sendingSinceMs);
  expect(state.health).toBe(StoredHealth.away);
  watch.onCommitted(clock.steadyMs() - 500);
  expect(state.health).toBe(StoredHealth.running);
});

test('nothing that is waited for any more ends it, too', async () => {
  const { clock, state, watch } = world();
  state.isWanted = true;
  watch.look();
  await clock.advance(1000);
  watch.look();
  expect(state.health).toBe(StoredHealth.away);
  state.isWanted = false;
  watch.look();
  expect(state.health).toBe(StoredHealth.running);
});

test('a database that only a person can mend is stopped until it is written', () => {
  const { state, watch } = world();
  for (const stopped of ['halted', 'refused', 'closed'] as const) {
    watch.onState('writing');
    expect(state.health).toBe(StoredHealth.running);
    watch.onState(stopped);
    expect(state.health).toBe(StoredHealth.stopped);
    watch.onState('retrying');
    expect(state.health).toBe(StoredHealth.stopped);
  }
});

test('without a limit callers wait on', async () => {
  const { clock, state, watch } = world(0);
  state.isWanted = true;
  watch.look();
  await clock.advance(1_000_000);
  watch.look();
  expect(state.health).toBe(StoredHealth.running);
});

test('a rate of rows makes the next batch wait for the time of the rows before', () => {
  const rate = new RowRate(100);
  expect(rate.waitMs(0)).toBe(0);
  rate.count(50, 1000);
  expect(rate.waitMs(1000)).toBe(500);
  expect(rate.waitMs(1400)).toBe(100);
  expect(rate.waitMs(9000)).toBe(0);
  rate.count(10, 9000);
  rate.count(10, 9000);
  expect(rate.waitMs(9000)).toBe(200);
  const free = new RowRate(0);
  free.count(1_000_000, 0);
  expect(free.waitMs(0)).toBe(0);
});
