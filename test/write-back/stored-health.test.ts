import { expect, test } from 'vitest';
import { StoredHealth } from '../../src/native.ts';
import { RowRate } from '../../src/write-back/row-rate.ts';
import { StoredHealthWatch } from '../../src/write-back/stored-health.ts';
import { VirtualClock } from '../support/virtual-clock.ts';

const SHARDS = 4;

function world(ackTimeoutMs = 1000, lanes = 1) {
  const clock = new VirtualClock();
  const health: StoredHealth[] = new Array(SHARDS).fill(StoredHealth.stopped);
  /** Shards with a change that a caller waits for. */
  const wanted = new Set<number>();
  const handle = {
    shardCount: SHARDS,
    setStoredHealth: (value: StoredHealth, from = 0, end = SHARDS) => {
      health.fill(value, from, end);
    },
    isWanted: (from: number, end: number) => [...wanted].some((shard) => shard >= from && shard < end),
  };
  const state = {
    get health(): StoredHealth {
      expect(new Set(health).size).toBe(1);
      return health[0]!;
    },
    set isWanted(yes: boolean) {
      if (yes) wanted.add(1);
      else wanted.clear();
    },
  };
  return { clock, state, health, wanted, watch: new StoredHealthWatch({ handle, lanes, clock, ackTimeoutMs }) };
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
  watch.onCommitted([0], 1);
  expect(state.health).toBe(StoredHealth.running);
});

test('each confirmation gives the time anew', async () => {
  const { clock, state, watch } = world();
  state.isWanted = true;
  for (let i = 0; i < 5; i++) {
    watch.look();
    await clock.advance(900);
    watch.look();
    watch.onCommitted([0], 1);
  }
  expect(state.health).toBe(StoredHealth.running);
});

test('each lane is judged by itself: a confirmation of one does not give the time of another anew', async () => {
  const { clock, health, wanted, watch } = world(1000, 2);
  const { running, away } = StoredHealth;
  wanted.add(1).add(2);
  watch.look();
  for (let i = 0; i < 4; i++) {
    await clock.advance(300);
    watch.onCommitted([1], 2);
    watch.look();
  }
  expect(health).toEqual([away, away, running, running]);
  watch.onCommitted([1], 2);
  expect(health).toEqual([away, away, running, running]);
  watch.onCommitted([0, 1], 2);
  expect(health).toEqual([running, running, running, running]);
});

test('a lane that only a person can mend stops its shards', () => {
  const { health, watch } = world(1000, 2);
  const { running, stopped } = StoredHealth;
  watch.onStates(['writing', 'halted']);
  expect(health).toEqual([running, running, stopped, stopped]);
  watch.onStates(['halted', 'retrying']);
  expect(health).toEqual([stopped, stopped, stopped, stopped]);
  watch.onStates(['writing', 'retrying']);
  expect(health).toEqual([running, running, stopped, stopped]);
});

test('while the number of lanes changes, a confirmation of the lanes before is one of all', async () => {
  const { clock, health, wanted, watch } = world(1000, 2);
  const { running, away } = StoredHealth;
  wanted.add(0).add(3);
  watch.look();
  await clock.advance(1000);
  watch.look();
  expect(health).toEqual([away, away, away, away]);
  watch.onCommitted([3], 4);
  expect(health).toEqual([running, running, running, running]);
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
    watch.onStates(['writing']);
    expect(state.health).toBe(StoredHealth.running);
    watch.onStates([stopped]);
    expect(state.health).toBe(StoredHealth.stopped);
    watch.onStates(['retrying']);
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
