// What every log has to do, whatever it is made of: the words of src/log/request-log.ts as tests. A log is held to them
// by a harness that opens it, reopens it, and, where that is possible, opens it a second time while the first is in
// use.

import { afterEach, describe, expect, test } from 'vitest';
import type { LogEntry, Position, RequestLog } from '../../src/log/index.ts';
import { withCode } from '../support/errors.ts';
import { append, batchFor, keysOf, take } from '../support/logs.ts';

export interface LogHarness {
  /** Opens the log, which is new at first, and takes it over. Earlier ones were closed. */
  open(): RequestLog | Promise<RequestLog>;
  /** Opens it once more while another handle has it. Undefined: such a log can be opened only once. */
  contend?(): RequestLog | Promise<RequestLog>;
  /** Removes everything that the tests have left. */
  dispose(): void | Promise<void>;
}

export function describeRequestLog(name: string, makeHarness: () => LogHarness | Promise<LogHarness>): void {
  describe(`${name} as a request log`, () => {
    const harnesses: LogHarness[] = [];
    const harness = async (): Promise<LogHarness> => {
      const made = await makeHarness();
      harnesses.push(made);
      return made;
    };
    const open = async (): Promise<RequestLog> => (await harness()).open();
    afterEach(async () => {
      for (const made of harnesses.splice(0)) await made.dispose();
    });
    const all = async (log: RequestLog, count: number, from?: Position): Promise<string[]> => {
      const { oldest } = await log.usage();
      return (await take(log.read(from ?? oldest), count)).flatMap(keysOf);
    };

    test('what is appended is read, in order and with its bytes', async () => {
      const log = await open();
      for (const name of ['a', 'b', 'c']) await append(log, name, { count: 2 });
      expect(await all(log, 3)).toEqual(['a.1', 'a.2', 'b.1', 'b.2', 'c.1', 'c.2']);
      const batch = batchFor(log, 'd', { count: 3, valueBytes: 100 });
      const from = log.end;
      await log.append(batch);
      const [entry] = await take(log.read(from), 1);
      expect(entry?.records.equals(Buffer.concat(batch.records))).toBe(true);
      expect(entry).toMatchObject({ kind: 'records', recordCount: 3, epoch: log.epoch });
    });

    test('a batch may come in pieces that are cut anywhere between records', async () => {
      const log = await open();
      const { records, ...batch } = batchFor(log, 'p', { count: 4 });
      const [first, ...others] = records;
      await log.append({ ...batch, records: [first!, Buffer.concat(others)] });
      expect(await all(log, 1)).toEqual(['p.1', 'p.2', 'p.3', 'p.4']);
    });

    test('a batch is at the position that was answered, and the next one begins where it ends', async () => {
      const log = await open();
      const first = await append(log, 'a');
      const second = await append(log, 'b');
      expect(second.position).toBe(first.end);
      expect(log.end).toBe(second.end);
      expect(log.committed).toBe(second.end);
      const entries = await take(log.read(first.position), 2);
      expect(entries.map(({ position, end }) => ({ position, end }))).toMatchObject([first, second]);
    });

    test('positions grow along the log and over openings', async () => {
      const { open } = await harness();
      let last = -1n;
      for (let i = 0; i < 4; i++) {
        const log = await open();
        for (let k = 0; k < 3; k++) {
          const { position, end } = await append(log, `${i}.${k}`);
          expect(position).toBeGreaterThan(last);
          expect(end).toBeGreaterThan(position);
          last = position;
        }
        await log.close();
      }
    });

    test('entries say how many records were before them', async () => {
      const log = await open();
      await append(log, 'a', { count: 3 });
      await append(log, 'b', { count: 4 });
      await append(log, 'c', { count: 1 });
      const entries = await take(log.read((await log.usage()).oldest), 3);
      expect(entries.map(({ recordsBefore }) => recordsBefore)).toEqual([0n, 3n, 7n]);
    });

    test('an append that expects another position changes nothing', async () => {
      const log = await open();
      await append(log, 'a');
      const end = log.end;
      for (const expectPosition of [0n, end + 8n, end + 1_000_000n]) {
        expect(await log.append({ ...batchFor(log, 'x'), expectPosition })).toEqual({ kind: 'conflict', end });
      }
      expect(log.end).toBe(end);
      await append(log, 'b');
      expect(await all(log, 2)).toEqual(['a.1', 'b.1']);
    });

    test('a batch that is appended again where it is already is answered as the first time, and stored once', async () => {
      const log = await open();
      const batch = batchFor(log, 'a', { count: 2 });
      const first = await log.append(batch);
      await append(log, 'b');
      expect(await log.append(batch)).toEqual(first);
      // Another batch there is not it, be it as large.
      expect(
        await log.append({ ...batchFor(log, 'c', { count: 2 }), expectPosition: batch.expectPosition }),
      ).toMatchObject({
        kind: 'conflict',
      });
      expect(await all(log, 2)).toEqual(['a.1', 'a.2', 'b.1']);
    });

    test('what can never be a batch is refused with an error, and changes nothing', async () => {
      const log = await open();
      const batch = batchFor(log, 'a');
      const invalid = [
        { ...batch, records: [] },
        { ...batch, records: [Buffer.alloc(41)] },
        { ...batch, recordCount: 0 },
        { ...batch, recordCount: 1.5 },
        { ...batch, epoch: log.epoch - 1 },
      ];
      for (const wrong of invalid) {
        await expect(async () => log.append(wrong)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
      }
      await append(log, 'b');
      expect(await all(log, 1)).toEqual(['b.1']);
    });

    test('what was committed is there after closing and opening again', async () => {
      const { open } = await harness();
      const first = await open();
      await append(first, 'a', { count: 5 });
      await append(first, 'b');
      await first.close();
      const second = await open();
      expect(await all(second, 2)).toEqual(['a.1', 'a.2', 'a.3', 'a.4', 'a.5', 'b.1']);
    });

    test('opening raises the epoch and leaves a take-over in the log', async () => {
      const { open } = await harness();
      const first = await open();
      await append(first, 'a');
      await first.close();
      const second = await open();
      expect(second.epoch).toBeGreaterThan(first.epoch);
      await append(second, 'b');
      const entries: LogEntry[] = [];
      for await (const entry of second.read((await second.usage()).oldest)) {
        entries.push(entry);
        if (entries.length === 4) break;
      }
      expect(entries.map(({ kind, epoch }) => [kind, epoch])).toEqual([
        ['takeover', first.epoch],
        ['records', first.epoch],
        ['takeover', second.epoch],
        ['records', second.epoch],
      ]);
      expect(entries[0]!.writer).not.toBe(entries[2]!.writer);
    });

    test('the epoch of batches may rise, and opening again goes beyond it', async () => {
      const { open } = await harness();
      const first = await open();
      const raised = first.epoch + 7;
      await first.append({ ...batchFor(first, 'a'), epoch: raised });
      expect(first.epoch).toBe(raised);
      await first.close();
      expect((await open()).epoch).toBeGreaterThan(raised);
    });

    test('reading waits for what comes, and gets each entry once', async () => {
      const log = await open();
      await append(log, 'a');
      const keys: string[] = [];
      const reading = (async () => {
        for await (const entry of log.read((await log.usage()).oldest)) {
          keys.push(...keysOf(entry));
          if (keys.length === 6) return;
        }
      })();
      for (const name of ['b', 'c', 'd', 'e', 'f']) {
        await append(log, name);
        await new Promise(setImmediate);
      }
      await reading;
      expect(keys).toEqual(['a.1', 'b.1', 'c.1', 'd.1', 'e.1', 'f.1']);
    });

    test('several readers read the same, each at its own place', async () => {
      const log = await open();
      await append(log, 'a');
      const { end } = await append(log, 'b');
      const readers = [take(log.read(0n), 4), take(log.read(end), 2), take(log.read(log.end), 2)];
      await append(log, 'c');
      await append(log, 'd');
      const keys = await Promise.all(readers.map(async (reader) => (await reader).flatMap(keysOf)));
      expect(keys).toEqual([
        ['a.1', 'b.1', 'c.1', 'd.1'],
        ['c.1', 'd.1'],
        ['c.1', 'd.1'],
      ]);
    });

    test('a reader that stops leaves the log as it is, and reading goes on from any end that was read', async () => {
      const log = await open();
      for (const name of ['a', 'b', 'c']) await append(log, name);
      const [first] = await take(log.read(0n), 1);
      expect((await take(log.read(first!.end), 2)).flatMap(keysOf)).toEqual(['b.1', 'c.1']);
    });

    test('reading ends when its signal says so, and when the log is closed', async () => {
      const log = await open();
      await append(log, 'a');
      const stop = new AbortController();
      const stopped = take(log.read(0n, { signal: stop.signal }), 2);
      const closed = take(log.read(0n), 2);
      await new Promise(setImmediate);
      stop.abort();
      expect((await stopped).flatMap(keysOf)).toEqual(['a.1']);
      await log.close();
      expect((await closed).flatMap(keysOf)).toEqual(['a.1']);
    });

    test('a position that the log never had is refused', async () => {
      const log = await open();
      await append(log, 'a');
      await expect(take(log.read(log.end + 1_000_000n), 1)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
      await expect(take(log.read(-1n), 1)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
    });

    test('a cursor keeps its position over openings, goes ahead only, and can be dropped', async () => {
      const { open } = await harness();
      const first = await open();
      const a = await append(first, 'a');
      const b = await append(first, 'b');
      const cursor = first.cursor('feed');
      expect(await cursor.position()).toBeUndefined();
      await cursor.advance(a.end);
      await cursor.advance(a.end);
      await expect(async () => cursor.advance(a.position)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
      await expect(async () => cursor.advance(b.end + 1_000_000n)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
      await first.cursor('other').advance(b.end);
      await first.close();

      const second = await open();
      expect(new Map(await second.cursors())).toEqual(
        new Map([
          ['feed', a.end],
          ['other', b.end],
        ]),
      );
      const position = await second.cursor('feed').position();
      expect((await take(second.read(position!), 1)).flatMap(keysOf)).toEqual(['b.1']);
      await second.cursor('other').drop();
      await second.cursor('other').drop();
      expect([...(await second.cursors()).keys()]).toEqual(['feed']);
    });

    test('a cursor can be placed before where it is, as far as the log still goes', async () => {
      const log = await open();
      const places: { position: Position; end: Position }[] = [];
      for (let i = 0; i < 40; i++) places.push(await append(log, `${i}`, { valueBytes: 900 }));
      const cursor = log.cursor('feed');
      await cursor.place(places[39]!.end);
      await cursor.place(places[9]!.end);
      expect(await cursor.position()).toBe(places[9]!.end);
      expect(await log.truncate(places[29]!.end)).toBeLessThanOrEqual(places[9]!.end);
      expect(await all(log, 30, places[9]!.end)).toHaveLength(30);
      await cursor.advance(places[39]!.end);
      const oldest = await log.truncate(places[29]!.end);
      expect(oldest).toBeGreaterThan(places[9]!.end);
      await expect(async () => cursor.place(places[9]!.end)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
      expect(await cursor.position()).toBe(places[39]!.end);
    });

    test('truncating keeps everything behind the position and everything that a cursor needs', async () => {
      const log = await open();
      const places: { position: Position; end: Position }[] = [];
      for (let i = 0; i < 40; i++) places.push(await append(log, `${i}`, { valueBytes: 900 }));
      await log.cursor('slow').advance(places[9]!.end);
      const oldest = await log.truncate(places[29]!.end);
      expect(oldest).toBeGreaterThan(0n);
      expect(oldest).toBeLessThanOrEqual(places[9]!.end);
      expect(await all(log, 30, places[9]!.end)).toEqual(Array.from({ length: 30 }, (_, i) => `${i + 10}.1`));
      await expect(take(log.read(0n), 1)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));

      await log.cursor('slow').drop();
      expect(await log.truncate(places[29]!.end)).toBeGreaterThan(oldest);
      expect(await all(log, 10, places[29]!.end)).toEqual(Array.from({ length: 10 }, (_, i) => `${i + 30}.1`));
      expect((await log.usage()).oldest).toBeLessThanOrEqual(places[29]!.end);
    });

    test('a cursor cannot begin at a position that was truncated', async () => {
      const log = await open();
      const places: { position: Position; end: Position }[] = [];
      for (let i = 0; i < 40; i++) places.push(await append(log, `${i}`, { valueBytes: 900 }));
      const oldest = await log.truncate(places[29]!.end);
      await expect(async () => log.cursor('late').advance(0n)).rejects.toThrow(withCode('ERR_INVALID_ARGUMENT'));
      expect([...(await log.cursors()).keys()]).toEqual([]);
      await log.cursor('late').advance(oldest);
      expect((await log.cursors()).get('late')).toBe(oldest);
    });

    test('after closing nothing is appended, and closing again does nothing', async () => {
      const log = await open();
      await append(log, 'a');
      const batch = batchFor(log, 'b');
      await log.close();
      await log.close();
      await expect(async () => log.append(batch)).rejects.toThrow(withCode('ERR_CLOSED'));
      await expect(async () => log.sync()).rejects.toThrow(withCode('ERR_CLOSED'));
    });

    test('what is synced is durable', async () => {
      const log = await open();
      await append(log, 'a');
      await log.sync();
      expect(log.durable).toBe(log.committed);
      expect((await take(log.read(0n, { level: 'durable' }), 1)).flatMap(keysOf)).toEqual(['a.1']);
    });

    test('a log that is taken over fences its former writer, for it and for every reader', async () => {
      const made = await harness();
      const first = await made.open();
      await append(first, 'a');
      if (made.contend === undefined) {
        // Such a log is not given out twice: the lock is its fence.
        await expect(async () => made.open()).rejects.toThrow(withCode('ERR_LOG_LOCKED'));
        return;
      }
      const batch = batchFor(first, 'late');
      const second = await made.contend();
      expect(second.epoch).toBeGreaterThan(first.epoch);
      expect(await first.append(batch)).toEqual({ kind: 'fenced', epoch: second.epoch });
      await append(second, 'b');
      expect(await first.append(batch)).toEqual({ kind: 'fenced', epoch: second.epoch });
      for (const log of [first, second]) expect(await all(log, 2)).toEqual(['a.1', 'b.1']);
    });
  });
}
