/** Rows: what each change leaves, for every key and value, as of one moment. */
import assert from 'node:assert/strict';
import type { Change } from '../backend/index.ts';
import type { CaseText } from './case.ts';
import { bytes, compare, NOW_MS, RowsModel, remove, set, touch } from './harness.ts';

/** Keys that a collation, a text type or an index might merge, cut or refuse. */
export const ODD_KEYS: readonly Buffer[] = [
  ...['a', 'A', 'a ', ' a', 'a\0', 'a\0b', '\0', '\0\0', 'ä', 'a\u0308', '%', '_', "'", '"', '\\', '\\x61'].map(bytes),
  ...Array.from({ length: 256 }, (_, byte) => Buffer.from([byte])),
  Buffer.from([0xff, 0xff]),
  Buffer.from([0xc3, 0x28]),
  ...[250, 251, 255, 256, 767, 768, 1023, 1024, 1025, 1056, 1978, 1979, 2704, 3072, 3073, 65_535, 65_536].map(
    (length) => Buffer.alloc(length, 'k'),
  ),
  // Two long keys that differ at their ends only.
  ...['x', 'y'].map((end) => Buffer.concat([Buffer.alloc(60_000, 'k'), Buffer.from(end)])),
].filter((key, i, all) => all.findIndex((other) => other.equals(key)) === i);

const sequences = (length: number): readonly ('set' | 'delete' | 'touch')[][] =>
  length === 0
    ? [[]]
    : sequences(length - 1).flatMap((rest) => (['set', 'delete', 'touch'] as const).map((kind) => [...rest, kind]));

export const rowCases: readonly CaseText[] = [
  {
    name: 'a row comes back with all that its set had',
    async body({ open }) {
      const subject = await open();
      const rows = [
        set('zero', '', { codec: 0, clientFlags: 0, version: 0n }),
        set('flags', 'v', { codec: 7, clientFlags: 0xffff_ffff, version: 1n }),
        set('signed', 'v', { codec: 15, clientFlags: 0x8000_0000, version: 1n << 63n }),
        set('most', 'v', { expiresWallMs: Number.MAX_SAFE_INTEGER, version: (1n << 64n) - 1n }),
        set('bytes', Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))),
      ];
      await subject.write(...rows);
      const model = new RowsModel();
      model.apply(rows);
      await compare(
        subject,
        model,
        rows.map(({ key }) => key),
      );
    },
  },
  {
    name: 'sets replace, deletes remove, touches change the expiry, and what is not there stays so',
    async body({ open }) {
      const subject = await open();
      const model = new RowsModel();
      const write = async (...changes: Change[]): Promise<void> => {
        await subject.write(...changes);
        model.apply(changes);
      };
      const keys = ['a', 'b', 'c', 'd', 'e'].map(bytes);
      await write(set('a', '1'), set('b', '1', { expiresWallMs: NOW_MS + 5 }), set('c', '1'), remove('d'));
      await write(set('a', '2', { codec: 5, clientFlags: 9 }), touch('b', 0), remove('c'), touch('d', NOW_MS + 9));
      await compare(subject, model, keys);
      await write(touch('a', NOW_MS + 1), set('c', '3'), remove('e'), touch('c', NOW_MS + 2));
      await compare(subject, model, keys);
      subject.nowMs += 1;
      await compare(subject, model, keys);
      await write(touch('a', 0));
      await compare(subject, model, keys);
    },
  },
  {
    name: 'a key that occurs more than once in a batch ends as if its changes were applied in turn',
    async body({ open }) {
      const subject = await open();
      const model = new RowsModel();
      const keys: Buffer[] = [];
      const before: Change[] = [];
      const after: Change[] = [];
      for (const wasThere of [false, true]) {
        for (const kinds of [...sequences(2), ...sequences(3)]) {
          const key = bytes(`${wasThere} ${kinds.join(' ')}`);
          keys.push(key);
          if (wasThere) before.push(set(key, 'before', { expiresWallMs: NOW_MS + 1_000 }));
        }
      }
      // All first changes, then all second ones: those of one key are apart.
      for (let step = 0; step < 3; step++) {
        for (const [i, key] of keys.entries()) {
          const [, ...kinds] = key.toString().split(' ');
          const expiresWallMs = NOW_MS + 10 * (i + 1) + step;
          if (kinds[step] === 'set')
            after.push(set(key, `step ${step}`, { expiresWallMs: step === 1 ? 0 : expiresWallMs }));
          if (kinds[step] === 'delete') after.push(remove(key));
          if (kinds[step] === 'touch') after.push(touch(key, expiresWallMs));
        }
      }
      await subject.write(...before);
      await subject.write(...after);
      model.apply(before);
      model.apply(after);
      await compare(subject, model, keys);
    },
  },
  {
    name: 'keys are bytes: none is another, none is refused',
    async body({ open }) {
      const subject = await open();
      const model = new RowsModel();
      const changes = ODD_KEYS.map((key, i) => set(key, `${i}`));
      await subject.write(...changes);
      model.apply(changes);
      await compare(subject, model, ODD_KEYS);
      const touches = ODD_KEYS.filter((_, i) => i % 3 === 0).map((key) => touch(key, NOW_MS + 50));
      const deletes = ODD_KEYS.filter((_, i) => i % 3 === 1).map(remove);
      await subject.write(...touches, ...deletes);
      model.apply([...touches, ...deletes]);
      await compare(subject, model, ODD_KEYS);
    },
  },
  {
    name: 'values are bytes, from none to the largest',
    async body({ open, harness }) {
      const subject = await open();
      const largest = Buffer.alloc(harness.valueBytesMax ?? 64 * 2 ** 20);
      for (let i = 0; i < largest.length; i += 4093) largest[i] = i & 0xff;
      await subject.write(set('none', ''), set('nul', '\0'), set('largest', largest), set('after', 'value'));
      const { rows } = await subject.load('none', 'nul', 'after');
      assert.deepEqual(
        rows.map((row) => row?.value.toString()),
        ['', '\0', 'value'],
      );
      const [row] = (await subject.load('largest')).rows;
      assert.ok(row?.value.equals(largest));
      const scanned = (await subject.scan()).rows;
      assert.deepEqual(scanned.map(({ key }) => key.toString()).sort(), ['after', 'largest', 'none', 'nul']);
      assert.ok(scanned.find(({ key }) => key.equals(bytes('largest')))?.value.equals(largest));
      await subject.write(set('largest', 'small'));
      assert.deepEqual(await subject.texts('largest'), ['small']);
    },
  },
  {
    name: 'a row is a miss from the millisecond of its expiry on',
    async body({ open }) {
      const subject = await open();
      await subject.write(set('key', 'value', { expiresWallMs: NOW_MS + 10 }), set('ever', 'value'));
      subject.nowMs = NOW_MS + 9;
      assert.deepEqual(await subject.texts('key', 'ever'), ['value', 'value']);
      assert.equal((await subject.scan()).rows.length, 2);
      subject.nowMs = NOW_MS + 10;
      assert.deepEqual(await subject.texts('key', 'ever'), [undefined, 'value']);
      assert.equal((await subject.scan()).rows.length, 1);
    },
  },
  {
    name: 'a load answers by index, whatever the order and however often a key is asked for',
    async body({ open }) {
      const subject = await open();
      await subject.write(set('a', '1'), set('b', '2'));
      assert.deepEqual(await subject.texts('b', 'none', 'a', 'b', 'b'), ['2', undefined, '1', '2', '2']);
      assert.deepEqual((await subject.load()).rows, []);
      const many = Array.from({ length: 1025 }, (_, i) => (i === 700 ? 'a' : `none ${i}`));
      const rows = await subject.texts(...many);
      assert.deepEqual(
        rows.flatMap((value, i) => (value === undefined ? [] : [i])),
        [700],
      );
    },
  },
  {
    name: 'a batch of every size around the size of a statement is written whole',
    async body({ open }) {
      const subject = await open();
      const model = new RowsModel();
      const keyOf = (i: number): Buffer => bytes(`key ${i}`);
      for (const count of [1, 2, 3, 4, 5, 127, 128, 129, 511, 512, 513, 1023, 1024, 1025, 2048, 2500]) {
        const changes = Array.from({ length: count }, (_, i) =>
          i % 5 === 4 ? remove(keyOf(i)) : i % 7 === 6 ? touch(keyOf(i), NOW_MS + count) : set(keyOf(i), `${count}`),
        );
        await subject.write(...changes);
        model.apply(changes);
      }
      await compare(
        subject,
        model,
        Array.from({ length: 2500 }, (_, i) => keyOf(i)),
      );
    },
  },
  {
    name: 'a batch of many bytes is written whole',
    async body({ open }) {
      const subject = await open();
      const model = new RowsModel();
      const sizes = [2 ** 20 - 1, 2 ** 20, 2 ** 20 + 1, 0, ...Array.from({ length: 40 }, (_, i) => 200_000 + i)];
      const changes = sizes.map((size, i) => set(`key ${i}`, Buffer.alloc(size, i)));
      await subject.write(...changes);
      model.apply(changes);
      await compare(
        subject,
        model,
        changes.map(({ key }) => key),
      );
    },
  },
  {
    name: 'rows and cursor of a load or a scan are of one moment while a writer runs',
    level: 'transactional',
    async body({ open }) {
      const subject = await open();
      const keys = Array.from({ length: 300 }, (_, i) => `key ${i}`);
      const round = (n: bigint): Change[] => keys.map((key) => set(key, `${n}`, { version: n }));
      await subject.write(...round(1n));
      // Calls that work synchronously would leave no turn to the others.
      const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
      let isOver = false;
      const writing = (async () => {
        for (let n = 2n; n <= 40n; n++) {
          await turn();
          await subject.write(...round(n));
        }
        isOver = true;
      })();
      const moments = new Set<bigint>();
      const look = async (read: () => Promise<{ versions: bigint[]; position: bigint }>): Promise<void> => {
        while (!isOver) {
          await turn();
          const { versions, position } = await read();
          assert.deepEqual(new Set(versions), new Set([position]));
          assert.equal(versions.length, keys.length);
          moments.add(position);
        }
      };
      const reading = [
        look(async () => {
          const { rows, cursors } = await subject.load(...keys);
          return { versions: rows.map((row) => row!.version), position: cursors[0]!.position };
        }),
        look(async () => {
          const { rows, cursors } = await subject.scan();
          return { versions: rows.map((row) => row.version), position: cursors[0]!.position };
        }),
      ];
      await Promise.all([writing, ...reading]);
      assert.ok(moments.size > 1, 'the writer was at more than one position');
    },
  },
  {
    name: 'a scan that its reader leaves, or a signal ends, holds nothing up',
    async body({ open }) {
      const subject = await open();
      const changes = Array.from({ length: 1000 }, (_, i) => set(`key ${i}`, 'value'));
      await subject.write(...changes);
      for (let i = 0; i < 8; i++) {
        for await (const { rows } of subject.backend.scan()) if (rows.length > 0) break;
      }
      const reason = new Error('enough');
      const ended = new AbortController();
      const read = (async () => {
        for await (const { rows } of subject.backend.scan(ended.signal)) if (rows.length > 0) ended.abort(reason);
      })();
      await assert.rejects(read, reason);
      await assert.rejects(async () => {
        for await (const _ of subject.backend.scan(AbortSignal.abort(reason)));
      }, reason);
      await subject.write(remove('key 0'));
      assert.deepEqual(await subject.texts('key 0', 'key 1'), [undefined, 'value']);
      assert.equal((await subject.scan()).rows.length, 999);
    },
  },
];
