// Lanes that come together for an entry of the log.

import { expect, test } from 'vitest';
import type { LogEntry } from '../../src/log/index.ts';
import { type Attendant, Meetings } from '../../src/write-back/meetings.ts';
import { deferred } from '../support/threads.ts';

const laneOf = (lane: number): Attendant => ({ share: { lane } });

const crossing = (end: bigint, ...lanes: number[]) => ({ entry: { end } as LogEntry, lanes });

test('the last lane to come has the entry written once, for all in their order, and all hear of the outcome', async () => {
  const meetings = new Meetings<Attendant>(new AbortController().signal);
  const written: number[][] = [];
  const outcome = deferred();
  const attend = (lane: number): Promise<string> =>
    meetings.attend(laneOf(lane), crossing(8n, 0, 1, 3), async (present) => {
      written.push(present.map(({ share }) => share.lane));
      await outcome.promise;
      return 'written';
    });
  const coming = [attend(3), attend(0)];
  await Promise.resolve();
  expect(written).toEqual([]);
  coming.push(attend(1));
  expect(written).toEqual([[0, 1, 3]]);
  outcome.resolve();
  expect(await Promise.all(coming)).toEqual(['written', 'written', 'written']);
});

test('lanes that wait at different entries are not those of one', async () => {
  const meetings = new Meetings<Attendant>(new AbortController().signal);
  const written: bigint[] = [];
  const attend = (lane: number, end: bigint): Promise<string> =>
    meetings.attend(laneOf(lane), crossing(end, 0, 1), async () => {
      written.push(end);
      return 'written';
    });
  void attend(0, 8n);
  const second = [attend(1, 16n), attend(0, 16n)];
  expect(await Promise.all(second)).toEqual(['written', 'written']);
  expect(written).toEqual([16n]);
});

test('the signal ends those that wait, and those that come later', async () => {
  const ending = new AbortController();
  const meetings = new Meetings<Attendant>(ending.signal);
  const attend = (lane: number): Promise<string> =>
    meetings.attend(laneOf(lane), crossing(8n, 0, 1), () => Promise.reject(new Error('not all are there')));
  const waiting = attend(0);
  ending.abort();
  expect(await waiting).toBe('ended');
  expect(await attend(1)).toBe('ended');
});
