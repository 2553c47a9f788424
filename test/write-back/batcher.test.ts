import { describe, expect, test } from 'vitest';
import { RuleSet } from '../../src/rules/index.ts';
import { Batcher } from '../../src/write-back/batcher.ts';
import { noMarks, WorldLog } from '../support/writer-world.ts';

const limits = { rows: 3, bytes: 1000, delayMs: 50 };

describe('a batch is taken', () => {
  test('when it has enough rows, with the whole entry that reached them', () => {
    const log = new WorldLog();
    const batcher = new Batcher(limits, noMarks);
    batcher.add(log.append({ kind: 'set', key: 'a' }, { kind: 'set', key: 'b' }), 0);
    expect(batcher.isFull).toBe(false);
    batcher.add(log.append({ kind: 'set', key: 'c' }, { kind: 'set', key: 'd' }), 0);
    expect(batcher.isFull).toBe(true);
    expect(batcher.dueInMs(0)).toBe(0);
    expect(batcher.take().changes.list()).toHaveLength(4);
    expect([batcher.isEmpty, batcher.dueInMs(0)]).toEqual([true, undefined]);
  });

  test('when it has enough bytes', () => {
    const log = new WorldLog();
    const batcher = new Batcher(limits, noMarks);
    batcher.add(log.append({ kind: 'set', key: 'a', value: 'x'.repeat(1000 - 64 - 2) }), 0);
    expect(batcher.isFull).toBe(false);
    batcher.add(log.append({ kind: 'set', key: 'a', value: 'x'.repeat(1000 - 64 - 1) }), 0);
    expect(batcher.isFull).toBe(true);
  });

  test('when its oldest record has waited, also if others came later', () => {
    const log = new WorldLog();
    const batcher = new Batcher(limits, noMarks);
    batcher.add(log.append({ kind: 'set', key: 'a' }), 100);
    expect(batcher.dueInMs(120)).toBe(30);
    batcher.add(log.append({ kind: 'set', key: 'a' }), 140);
    expect(batcher.dueInMs(145)).toBe(5);
    expect(batcher.dueInMs(160)).toBe(0);
  });

  test('at once when everything up to a position is asked for and has been read', () => {
    const log = new WorldLog();
    const batcher = new Batcher(limits, noMarks);
    batcher.add(log.append({ kind: 'set', key: 'a' }), 0);
    const second = log.append({ kind: 'set', key: 'b' });
    batcher.flushTo(second.end);
    expect(batcher.dueInMs(0), 'the rest is still to be read').toBe(50);
    batcher.add(second, 0);
    expect(batcher.dueInMs(0)).toBe(0);
    batcher.take();
    batcher.add(log.append({ kind: 'set', key: 'c' }), 0);
    expect(batcher.dueInMs(0), 'what came later was not asked for').toBe(50);
  });
});

test('its end is that of the last entry, also of one without changes', () => {
  const log = new WorldLog();
  const batcher = new Batcher(limits, noMarks);
  batcher.add(log.append({ kind: 'set', key: 'a' }), 0);
  log.takeOver();
  const takeover = log.entries.at(-1)!;
  batcher.add(takeover, 0);
  expect(batcher.take().end).toEqual({ position: takeover.end, epoch: 2, writer: 101n });
});

test('entries without changes are no batch, and have no delay', () => {
  const log = new WorldLog();
  const batcher = new Batcher(limits, noMarks);
  const entry = log.append({ kind: 'clear' });
  batcher.add(entry, 0);
  expect([batcher.isEmpty, batcher.dueInMs(1000), batcher.position]).toEqual([true, undefined, entry.end]);
});

test('rows of history fill a batch as distinct keys do', () => {
  const log = new WorldLog();
  const rules = new RuleSet([{ prefix: 'h:', skip: false, history: true, deleteOnExpire: true }]);
  const batcher = new Batcher(limits, noMarks, rules);
  batcher.add(log.append({ kind: 'set', key: 'h:a' }), 0);
  expect(batcher.isFull).toBe(false);
  batcher.add(log.append({ kind: 'set', key: 'h:a' }), 0);
  expect(batcher.isFull).toBe(true);
  expect(batcher.take().changes.history).toHaveLength(2);
});
