import { expect, test } from 'vitest';
import { Connection } from '../../src/write-back/connection.ts';
import { VirtualClock } from '../support/virtual-clock.ts';
import { WorldBackend, WorldDatabase } from '../support/writer-world.ts';

class Connections {
  readonly clock = new VirtualClock();
  readonly made: WorldBackend[] = [];
  readonly opened: WorldBackend[] = [];
  isAway = false;
  readonly calls = new Connection({
    connect: async () => {
      const backend = new WorldBackend(new WorldDatabase(), this.clock);
      backend.fault = (call) => {
        if (call === 'open') this.opened.push(backend);
        return this.isAway ? 'before' : undefined;
      };
      this.made.push(backend);
      return backend;
    },
    callTimeoutMs: 5000,
    clock: this.clock,
  });
}

test('calls that begin at the same time share the connection that the first one makes', async () => {
  const { calls, clock, made, opened } = new Connections();
  const used: unknown[] = [];
  const all = Promise.all(
    Array.from({ length: 3 }, () =>
      calls.use(async (backend) => {
        used.push(backend);
      }),
    ),
  );
  await clock.advance(10);
  await all;
  await calls.use(async (backend) => void used.push(backend));
  expect([made.length, opened.length]).toEqual([1, 1]);
  expect(new Set(used)).toEqual(new Set(made));
});

test('a connection that could not be opened is opened by the next call', async () => {
  const connections = new Connections();
  const { calls, clock, made, opened } = connections;
  connections.isAway = true;
  const failed = Promise.all([calls.once(async () => 'no'), calls.once(async () => 'no')]);
  await clock.advance(10);
  expect(await failed).toMatchObject([
    { error: { message: 'connection lost' }, isHalting: false },
    { error: { message: 'connection lost' }, isHalting: false },
  ]);
  connections.isAway = false;
  const answered = calls.once(async () => 'yes');
  await clock.advance(10);
  expect(await answered).toEqual({ value: 'yes' });
  expect([made.length, opened.length]).toEqual([1, 2]);
});

test('a call that takes too long fails with its connection, and the next one has another', async () => {
  const { calls, clock, made } = new Connections();
  const late = calls.once(() => new Promise(() => {}));
  await clock.advance(5000);
  expect(await late).toEqual({ error: new Error('memory:world did not answer within 5000 ms'), isHalting: false });
  expect(made.map(({ isClosed }) => isClosed)).toEqual([true]);
  const answered = calls.once(async () => 'yes');
  await clock.advance(10);
  expect(await answered).toEqual({ value: 'yes' });
  expect(made.map(({ isClosed }) => isClosed)).toEqual([true, false]);
});
