// What every log behind the scribe's port has to do, however late it answers: the words of src/log/log-port.ts as
// tests. A harness opens it and says how it is filled up and how a little time passes.

import { afterEach, describe, expect, test } from 'vitest';
import {
  type LogBatch,
  type LogPort,
  type Position,
  type RecordPlace,
  recordAt,
  recordsOf,
  type Settled,
} from '../../src/log/index.ts';
import { withCode } from '../support/errors.ts';
import { batchAt, keysOf } from '../support/logs.ts';

export interface PortHarness {
  /** Opens the log, which is new at first, and takes it over. Earlier ones were closed. */
  open(): LogPort;
  /** Makes the log one without room, or one with room again. Undefined: that cannot be had here. */
  fill?(log: LogPort, isFull: boolean): void;
}

/** Calls of poll() within which every log answers. */
const POLLS_MAX = 1000;

export function describeLogPort(name: string, makeHarness: () => PortHarness): void {
  describe(`${name} behind the port`, () => {
    let opened: LogPort[] = [];
    const harness = (): PortHarness => {
      const made = makeHarness();
      return {
        ...made,
        open() {
          const log = made.open();
          opened.push(log);
          return log;
        },
      };
    };
    afterEach(() => {
      for (const log of opened) log.close();
      opened = [];
    });

    /** Polls until `count` appends were settled. */
    const settled = (log: LogPort, count: number): Settled[] => {
      const all: Settled[] = [];
      for (let i = 0; all.length < count; i++) {
        if (i === POLLS_MAX) throw new Error(`${all.length} of ${count} were answered`);
        all.push(...log.poll());
      }
      return all.sort((a, b) => a.ticket - b.ticket);
    };
    /** Appends a batch, again and again until it is in the log, as a caller does who is not told. */
    const append = (log: LogPort, key: string, count = 1): { position: Position; end: Position } => {
      const batch = batchAt(log, log.end, key, { count });
      for (let i = 0; i < POLLS_MAX; i++) {
        log.submit(i, batch);
        const [{ result }] = settled(log, 1) as [Settled];
        if (result.kind === 'committed') return result;
        if (result.kind !== 'unknown') throw new Error(result.kind);
      }
      throw new Error('It was never known');
    };
    const sync = (log: LogPort): void => {
      const upTo = log.committed;
      for (let i = 0; !log.syncStep(upTo); i++) {
        expect(i).toBeLessThan(POLLS_MAX);
        log.poll();
      }
    };
    const keys = (log: LogPort): string[] => [...log.entries(log.oldestReadable)].flatMap(keysOf);

    test('every batch that is submitted is settled once, under its ticket', () => {
      const log = harness().open();
      for (let round = 0; round < 20; round++) {
        const position = log.end;
        log.submit(round, batchAt(log, position, `${round}`));
        const [first, ...others] = settled(log, 1);
        expect(first?.ticket).toBe(round);
        expect(others).toEqual([]);
        for (let i = 0; i < 100; i++) expect(log.poll()).toEqual([]);
        if (first?.result.kind !== 'committed') append(log, `${round}`);
      }
    });

    test('a window of batches at predicted ends is kept in order, or cut at one place', () => {
      const log = harness().open();
      let stored: string[] = [];
      for (let round = 0; round < 40; round++) {
        const flights: { key: string; batch: LogBatch }[] = [];
        let position = log.end;
        for (let i = 0; i < log.windowMax; i++) {
          const key = `${round}.${i}`;
          const batch = batchAt(log, position, key);
          flights.push({ key, batch });
          log.submit(i, batch);
          position = log.endAfter(position, batch);
        }
        const answers = settled(log, flights.length);
        const known = answers.filter(({ result }) => result.kind === 'committed').map(({ ticket }) => ticket);
        // One that is committed has all before it committed.
        const least = known.length === 0 ? 0 : Math.max(...known) + 1;
        for (const { ticket, result } of answers) {
          const isUnsure = result.kind === 'unknown' || result.kind === 'conflict';
          expect(isUnsure || result.kind === 'committed', `${ticket} ${result.kind}`).toBe(true);
          if (result.kind === 'conflict') expect(ticket).toBeGreaterThanOrEqual(least);
        }
        // Submitting again what is not known, in order, settles all of it.
        for (const [ticket, { batch }] of flights.entries()) {
          if (known.includes(ticket)) continue;
          for (let done = false; !done; ) {
            log.submit(ticket, batch);
            const [{ result }] = settled(log, 1) as [Settled];
            expect(['committed', 'unknown']).toContain(result.kind);
            done = result.kind === 'committed';
          }
        }
        expect(log.end).toBe(position);
        stored = [...stored, ...flights.map(({ key }) => `${key}.1`)];
      }
      expect(keys(log)).toEqual(stored);
    });

    test('a batch that was answered with unknown is stored once, however often it is submitted', () => {
      const log = harness().open();
      for (let i = 0; i < 30; i++) append(log, `${i}`, 2);
      expect(keys(log)).toEqual(Array.from({ length: 30 }, (_, i) => [`${i}.1`, `${i}.2`]).flat());
      expect(log.recordsBefore).toBe(60n);
    });

    test('a batch that is in the log is the same batch if it is submitted again in a later epoch', () => {
      const log = harness().open();
      const batch = batchAt(log, log.end, 'a');
      const { position } = append(log, 'a');
      append(log, 'b');
      for (let i = 0, kind = 'unknown'; kind !== 'committed'; i++) {
        expect(i).toBeLessThan(POLLS_MAX);
        log.submit(i, { ...batch, epoch: log.epoch + 1 });
        const [{ result }] = settled(log, 1) as [Settled];
        expect(result).toMatchObject(result.kind === 'committed' ? { position } : { kind: 'unknown' });
        kind = result.kind;
      }
      expect(keys(log)).toEqual(['a.1', 'b.1']);
    });

    test('a batch that is at another position than the log ends at is a conflict, and is not stored', () => {
      const log = harness().open();
      append(log, 'a');
      for (let i = 0; i < 10; i++) {
        log.submit(1, batchAt(log, log.end + 4096n, 'x'));
        const [{ result }] = settled(log, 1) as [Settled];
        expect(['conflict', 'unknown']).toContain(result.kind);
      }
      append(log, 'b');
      expect(keys(log)).toEqual(['a.1', 'b.1']);
    });

    test('a log without room says so, stores nothing, and goes on with the same batch', () => {
      const { open, fill } = harness();
      const log = open();
      append(log, 'a');
      if (fill === undefined) throw new Error('Every harness has this');
      fill(log, true);
      const batch = batchAt(log, log.end, 'b', { valueBytes: 20_000 });
      let kind = 'unknown';
      for (let i = 0; kind === 'unknown' && i < 100; i++) {
        log.submit(i, batch);
        kind = settled(log, 1)[0]!.result.kind;
      }
      expect(kind).toBe('full');
      fill(log, false);
      for (let i = 0; kind !== 'committed'; i++) {
        log.submit(i, batch);
        kind = settled(log, 1)[0]!.result.kind;
        expect(['committed', 'unknown']).toContain(kind);
      }
      expect(keys(log)).toEqual(['a.1', 'b.1']);
    });

    test('what can never be a batch is refused at once, and is not in flight', () => {
      const log = harness().open();
      const batch = batchAt(log, log.end, 'a');
      for (const wrong of [
        { ...batch, records: [] },
        { ...batch, recordCount: 0 },
        { ...batch, epoch: log.epoch - 1 },
      ]) {
        expect(() => log.submit(1, wrong)).toThrow(withCode('ERR_INVALID_ARGUMENT'));
      }
      for (let i = 0; i < 100; i++) expect(log.poll()).toEqual([]);
      append(log, 'b');
      expect(keys(log)).toEqual(['b.1']);
    });

    test('a sync comes to an end, and all that is committed is durable then', () => {
      const log = harness().open();
      append(log, 'a');
      sync(log);
      expect(log.durable).toBe(log.committed);
    });

    test('a sync comes to an end also while more is appended, and is then durable as far as it was asked to', () => {
      const log = harness().open();
      append(log, 'a');
      const upTo = log.committed;
      for (let i = 0; !log.syncStep(upTo); i++) {
        expect(i).toBeLessThan(POLLS_MAX);
        append(log, `${i}`);
        expect(log.durable).toBeLessThanOrEqual(log.committed);
        expect(log.committed).toBeLessThanOrEqual(log.end);
      }
      expect(log.durable).toBeGreaterThanOrEqual(upTo);
    });

    test('a reader of durable entries gets no entry that is not durable yet', () => {
      const log = harness().open();
      for (let i = 0; i < 20; i++) {
        const { position, end } = append(log, `${i}`);
        const isDurable = log.durable >= end;
        expect(log.entryAt(position, 'durable') !== undefined).toBe(isDurable);
        const last = [...log.entries(log.oldestReadable, 'durable')].at(-1)?.end ?? 0n;
        expect(last).toBeLessThanOrEqual(log.durable);
        if (i % 3 === 0) sync(log);
      }
      sync(log);
      expect([...log.entries(log.oldestReadable, 'durable')].flatMap(keysOf)).toEqual(keys(log));
    });

    test('a reader gets what is there and then what comes, and ends with the log', async () => {
      const log = harness().open();
      append(log, 'a');
      const seen: string[] = [];
      const reading = (async () => {
        for await (const entry of log.read(log.oldestReadable)) seen.push(...keysOf(entry));
      })();
      for (const key of ['b', 'c', 'd']) {
        await new Promise((resolve) => setImmediate(resolve));
        append(log, key);
      }
      log.close();
      await reading;
      expect(seen).toEqual(['a.1', 'b.1', 'c.1', 'd.1']);
    });

    test('a position that the log never had, or has no more, is none to read from', () => {
      const log = harness().open();
      const places = Array.from({ length: 200 }, (_, i) => append(log, `${i}`));
      const from = (position: Position): string[] => [...log.entries(position)].flatMap(keysOf);
      expect(from(places[150]!.position)).toEqual(places.slice(150).map((_, i) => `${150 + i}.1`));
      expect(from(log.end)).toEqual([]);
      expect(() => from(log.end + 1000n)).toThrow(withCode('ERR_INVALID_ARGUMENT'));
      log.truncate(log.end);
      expect(log.oldestReadable).toBeGreaterThan(0n);
      expect(() => from(0n)).toThrow(withCode('ERR_INVALID_ARGUMENT'));
      expect(from(log.oldestReadable)).toEqual(keys(log));
    });

    test('a record is read by its place, and a truncated one is undefined, never another one', () => {
      const log = harness().open();
      for (let i = 0; i < 200; i++) append(log, `${i}`, 3);
      const records = [...log.entries(log.oldestReadable)].flatMap((entry) => [...recordsOf(entry)]);
      expect(records).toHaveLength(600);
      expect(records.map(({ recordsBefore }) => recordsBefore)).toEqual(records.map((_, i) => BigInt(i)));
      const isFound = (): boolean[] =>
        records.map(({ place, record }) => {
          const found = recordAt(log, place);
          if (found !== undefined) expect(found.equals(record)).toBe(true);
          return found !== undefined;
        });
      expect(isFound()).not.toContain(false);
      log.truncate(log.end);
      const left = isFound();
      expect(left).toContain(false);
      expect(left.lastIndexOf(false)).toBeLessThan(left.includes(true) ? left.indexOf(true) : left.length);
      const place: RecordPlace = records[0]!.place;
      expect(recordAt(log, { ...place, index: 3 })).toBeUndefined();
      expect(recordAt(log, { position: log.end, index: 0 })).toBeUndefined();
    });

    test('a cursor is there after closing and opening again, and goes ahead only', async () => {
      const { open } = harness();
      const first = open();
      const a = append(first, 'a');
      const b = append(first, 'b');
      const cursor = first.cursor('reader');
      expect(await cursor.position()).toBeUndefined();
      await cursor.advance(b.end);
      expect(first.durable).toBeGreaterThanOrEqual(b.end);
      first.close();
      const second = open();
      expect(await second.cursor('reader').position()).toBe(b.end);
      await expect(async () => second.cursor('reader').advance(a.end)).rejects.toThrow(
        withCode('ERR_INVALID_ARGUMENT'),
      );
      await expect(async () => second.cursor('reader').advance(second.end + 64n)).rejects.toThrow(
        withCode('ERR_INVALID_ARGUMENT'),
      );
    });

    test('an entry is read by its position, and a truncated one is undefined, never another one', () => {
      const log = harness().open();
      const places = Array.from({ length: 40 }, (_, i) => append(log, `${i}`));
      for (const [i, { position }] of places.entries()) expect(keysOf(log.entryAt(position)!)).toEqual([`${i}.1`]);
      expect(log.entryAt(log.end)).toBeUndefined();
      expect(log.entryAt(log.end + 1000n)).toBeUndefined();
      log.cursor('slow').advance(places[9]!.end);
      log.truncate(places[29]!.end);
      for (const [i, { position }] of places.entries()) {
        const entry = log.entryAt(position);
        if (i > 9) expect(keysOf(entry!)).toEqual([`${i}.1`]);
        else if (entry !== undefined) expect(keysOf(entry)).toEqual([`${i}.1`]);
        if (position < log.oldestReadable) expect(entry).toBeUndefined();
      }
      expect(new Map(log.cursors())).toEqual(new Map([['slow', places[9]!.end]]));
    });

    test('records before an entry are counted from the beginning of the log, over openings', () => {
      const { open } = harness();
      const first = open();
      append(first, 'a', 3);
      first.close();
      const second = open();
      expect(second.recordsBefore).toBe(3n);
      expect(second.epoch).toBeGreaterThan(first.epoch);
      const { position } = append(second, 'b', 2);
      expect(second.recordsBefore).toBe(5n);
      expect(second.entryAt(position)?.recordsBefore).toBe(3n);
    });

    test('after closing nothing is submitted', () => {
      const log = harness().open();
      const batch = batchAt(log, log.end, 'a');
      log.close();
      log.close();
      expect(() => log.submit(1, batch)).toThrow(withCode('ERR_CLOSED'));
      expect(() => log.syncStep(0n)).toThrow(withCode('ERR_CLOSED'));
    });
  });
}
