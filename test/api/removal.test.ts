// Removal events: which entries are told of, with what, in which order, and what happens to those who do not listen
// fast enough.

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Cache, type RemovalEvent, type RemovalOptions } from '../../src/index.ts';
import { runProgram, startThread, type ThreadTools, until } from '../support/threads.ts';

let cache: Cache;

beforeEach(() => {
  cache = new Cache({ maxMemory: '16mb', shards: 1, maxEntries: 16_384 });
});
afterEach(() => cache.close());

/** Everything that a listener hears, in order. */
function listen(options?: RemovalOptions, to = cache) {
  const heard: RemovalEvent[] = [];
  to.on('removal', (events) => heard.push(...events), options);
  return heard;
}

describe('a listener hears', () => {
  test('why each entry left, in the order in which they did', async () => {
    const heard = listen();
    cache.set('a', 1);
    cache.set('a', 2);
    cache.delete('a');
    cache.set('b', 1);
    cache.take('b');
    cache.set('c', 1);
    cache.evict('c');
    cache.set('d', 'x');
    cache.append('d', 'y');
    cache.delete('absent');
    cache.set('e', 1, { ttl: 1 });
    await until(() => cache.get('e') === undefined);
    await until(() => heard.length >= 6);
    expect(heard).toEqual([
      { key: 'a', reason: 'replaced' },
      { key: 'a', reason: 'deleted' },
      { key: 'b', reason: 'deleted' },
      { key: 'c', reason: 'evicted' },
      { key: 'd', reason: 'replaced' },
      { key: 'e', reason: 'expired' },
    ]);
  });

  test('of evictions, oldest entries first', async () => {
    const heard = listen();
    for (let i = 0; i < 16_384 + 100; i++) cache.set(`k${i}`, i);
    await until(() => heard.length === 100);
    expect(heard).toEqual(Array.from({ length: 100 }, (_, i) => ({ key: `k${i}`, reason: 'evicted' })));
  });

  test('of entries that expire, without a call that asks for them', async () => {
    const heard = listen();
    cache.set('k', 'v', { ttl: 1 });
    await until(() => heard.length === 1);
    expect(heard).toEqual([{ key: 'k', reason: 'expired' }]);
  });

  test('of many at once, in one batch', async () => {
    const sizes: number[] = [];
    cache.on('removal', (events) => sizes.push(events.length));
    for (let i = 0; i < 1000; i++) {
      cache.set(`k${i}`, i);
      cache.delete(`k${i}`);
    }
    expect(sizes).toEqual([]);
    await until(() => sizes.length > 0);
    expect(sizes).toEqual([1000]);
  });

  test('no event from before it was added', async () => {
    cache.set('before', 1);
    cache.delete('before');
    const heard = listen();
    cache.set('after', 1);
    cache.delete('after');
    await until(() => heard.length > 0);
    expect(heard).toEqual([{ key: 'after', reason: 'deleted' }]);
  });

  test('keys that are not text as Buffers', async () => {
    const heard = listen();
    const keys = ['grüße', 'a\ufffd', '😀', 'k'.repeat(65_536)];
    const bytes = [Buffer.from([0xff, 0xfe]), Buffer.from([0xed, 0xa0, 0x80])];
    for (const key of [...keys, ...bytes, Buffer.from('text')]) {
      cache.set(key, 1);
      cache.delete(key);
    }
    await until(() => heard.length === 7);
    expect(heard.map(({ key }) => key)).toEqual([...keys, ...bytes, 'text']);
  });
});

describe('values', () => {
  const values = [
    'text',
    'grüße',
    'a\ud800',
    0,
    -0,
    1.5,
    12n,
    null,
    true,
    { a: [1] },
    new Map([[1, 2]]),
    Buffer.from([0]),
  ];

  test('come with the events if they are asked for', async () => {
    const heard = listen({ values: true });
    for (const value of values) {
      cache.set('k', value);
      cache.delete('k');
    }
    await until(() => heard.length === values.length);
    expect(heard.map(({ value }) => value)).toEqual(values);
  });

  test('are left out otherwise', async () => {
    const heard = listen();
    cache.set('k', 'v');
    cache.delete('k');
    await until(() => heard.length === 1);
    expect(heard[0]).not.toHaveProperty('value');
  });

  test('are left out above 4096 bytes', async () => {
    const heard = listen({ values: true });
    for (const bytes of [4096, 4097, 1_000_000]) {
      cache.set('k', 'x'.repeat(bytes));
      cache.delete('k');
    }
    await until(() => heard.length === 3);
    expect(heard.map(({ value }) => typeof value)).toEqual(['string', 'undefined', 'undefined']);
    expect(heard[0]!.value).toBe('x'.repeat(4096));
  });

  test('that are bytes are read as the handle reads bytes', async () => {
    using texts = new Cache({ raw: 'string' });
    const heard = listen({ values: true }, texts as Cache);
    texts.set('k', Buffer.from('grüße'));
    texts.delete('k');
    await until(() => heard.length === 1);
    expect(heard[0]!.value).toBe('grüße');
  });
});

describe('clear()', () => {
  test('is one event with the number of entries, in order with the others', async () => {
    const heard: unknown[] = [];
    cache.on('removal', (events) => heard.push(...events.map(({ key }) => key)));
    cache.on('cleared', (count) => heard.push(count));
    cache.set('before', 1);
    cache.delete('before');
    for (let i = 0; i < 100; i++) cache.set(`k${i}`, i);
    cache.clear();
    cache.set('after', 1);
    cache.delete('after');
    cache.clear();
    await until(() => heard.length >= 3);
    expect(heard).toEqual(['before', 100, 'after']);
  });

  test('of several shards is one event', async () => {
    using sharded = new Cache({ maxMemory: '64mb', shards: 4 });
    const counts: number[] = [];
    sharded.on('cleared', (count) => counts.push(count));
    for (let i = 0; i < 1000; i++) sharded.set(`k${i}`, i);
    sharded.clear();
    await until(() => counts.length > 0);
    expect(counts).toEqual([1000]);
  });
});

describe('on, once and off', () => {
  test('a listener hears of the reasons that it wants', async () => {
    const deleted = listen({ reasons: ['deleted'] });
    const others = listen({ reasons: new Set(['replaced', 'evicted'] as const) });
    cache.set('k', 1);
    cache.set('k', 2);
    cache.delete('k');
    await until(() => deleted.length > 0 && others.length > 0);
    expect(deleted).toEqual([{ key: 'k', reason: 'deleted' }]);
    expect(others).toEqual([{ key: 'k', reason: 'replaced' }]);
  });

  test('off removes a listener that on added', async () => {
    const heard: unknown[] = [];
    const listener = (events: RemovalEvent[]) => heard.push(...events);
    const all = listen();
    expect(cache.on('removal', listener).off('removal', listener)).toBe(cache);
    cache.off('removal', listener);
    cache.set('k', 1);
    cache.delete('k');
    await until(() => all.length === 1);
    expect(heard).toEqual([]);
  });

  test('a listener that is added twice is called twice', async () => {
    let calls = 0;
    const listener = () => void calls++;
    cache.on('cleared', listener).on('cleared', listener);
    cache.set('k', 1);
    cache.clear();
    await until(() => calls === 2);
    cache.off('cleared', listener);
    cache.set('k', 1);
    cache.clear();
    await until(() => calls === 3);
  });

  test('a listener of once gets the first batch only', async () => {
    const batches: unknown[] = [];
    cache.once('removal', (events) => batches.push(events));
    cache.set('k', 1);
    cache.delete('k');
    await until(() => batches.length === 1);
    const all = listen();
    cache.set('k', 1);
    cache.delete('k');
    await until(() => all.length === 1);
    expect(batches.length).toBe(1);
  });

  test('a listener may take itself away, or another one', async () => {
    const calls: string[] = [];
    const second = () => calls.push('second');
    const first = () => {
      calls.push('first');
      cache.off('cleared', first).off('cleared', second);
    };
    cache.on('cleared', first).on('cleared', second);
    cache.set('k', 1);
    cache.clear();
    await until(() => calls.length === 2);
    const all: number[] = [];
    cache.on('cleared', (count) => all.push(count));
    cache.set('k', 1);
    cache.clear();
    await until(() => all.length === 1);
    expect(calls).toEqual(['first', 'second']);
  });

  test.for([
    [
      'an event',
      () => cache.on('evicted' as never, () => {}),
      /^Expected event to be 'removal' or 'cleared' or 'removals-lost' or 'log', got "evicted"$/,
    ],
    ['a listener', () => cache.on('removal', null as never), /^Expected listener to be a function, got null$/],
    [
      'an option',
      () => cache.on('removal', () => {}, { value: true } as never),
      /^Unknown option "value" in options: did you mean values\?$/,
    ],
    [
      'a reason',
      () => cache.on('removal', () => {}, { reasons: ['set' as never] }),
      /^Expected reasons to be an array of 'evicted', .*, got "set"$/,
    ],
    [
      'no reason',
      () => cache.on('removal', () => {}, { reasons: [] }),
      /^Expected reasons to be .*, at least one, got \[\]$/,
    ],
    [
      'reasons',
      () => cache.on('removal', () => {}, { reasons: 'evicted' as never }),
      /^Expected reasons to be an array of/,
    ],
    [
      'options of cleared',
      () => cache.on('cleared' as never, () => {}, { values: true }),
      /^Unknown option "values" in options/,
    ],
  ] as [string, () => unknown, RegExp][])('misuse is refused: %s', ([, call, message]) => {
    expect(call).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT', message: expect.stringMatching(message) }),
    );
  });
});

describe('when the handle is closed', () => {
  test('events from before are delivered first', async () => {
    const heard = listen();
    cache.set('k', 1);
    cache.delete('k');
    await cache.close();
    expect(heard).toEqual([{ key: 'k', reason: 'deleted' }]);
  });

  test('by a listener, it hears no more', async () => {
    const batches: number[] = [];
    let events = 0;
    cache.on('cleared', (count) => {
      batches.push(count);
      cache.close();
    });
    cache.on('removal', (batch) => {
      events += batch.length;
    });
    cache.set('k', 1);
    cache.clear();
    cache.set('k', 1);
    cache.delete('k');
    await until(() => batches.length === 1 && cache.closed);
    expect(batches).toEqual([1]);
    expect(events).toBe(0);
  });

  test('on throws ERR_CLOSED, off does nothing', async () => {
    const listener = () => {};
    cache.on('removal', listener);
    await cache.close();
    expect(() => cache.on('removal', listener)).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }));
    expect(cache.off('removal', listener)).toBe(cache);
  });
});

describe('other threads', () => {
  /** Writes `count` values under ten keys in turn. */
  const write = ({ cairn, data }: ThreadTools<{ name: string; prefix: string; count: number }>) => {
    const attached = cairn.Cache.attach(data.name);
    for (let i = 0; i < data.count; i++) attached.set(`${data.prefix}${i % 10}`, i);
  };

  test('cause events, in order for each key', async () => {
    using owner = new Cache<number>({ name: 'removal threads' });
    const heard: RemovalEvent[] = [];
    let lost = 0;
    owner.on('removal', (events) => heard.push(...events), { values: true });
    owner.on('removals-lost', (count) => {
      lost += count;
    });
    const threads = ['a', 'b', 'c'].map((prefix) =>
      startThread(write, { name: 'removal threads', prefix, count: 20_000 }),
    );
    await Promise.all(threads.map((thread) => thread.exit));
    await until(() => heard.length + lost === 3 * (20_000 - 10));
    const last = new Map<string, number>();
    for (const { key, value } of heard) {
      expect(value as number).toBeGreaterThan(last.get(key as string) ?? -1);
      last.set(key as string, value as number);
    }
    expect(last.size).toBe(30);
  });

  test('have listeners with their own reasons', async () => {
    using owner = new Cache({ name: 'removal threads' });
    const hear = async ({ cairn, data, say, hear }: ThreadTools<{ name: string; reason: 'deleted' | 'replaced' }>) => {
      const attached = cairn.Cache.attach(data.name);
      attached.on('removal', (events) => say(events), { reasons: [data.reason], values: true });
      say('listening');
      await hear();
    };
    const deleted = startThread(hear, { name: 'removal threads', reason: 'deleted' as const });
    const replaced = startThread(hear, { name: 'removal threads', reason: 'replaced' as const });
    for (const thread of [deleted, replaced]) expect(await thread.next()).toBe('listening');
    owner.set('k', { first: true });
    owner.set('k', { first: false });
    owner.delete('k');
    expect(await deleted.next()).toEqual([{ key: 'k', reason: 'deleted', value: { first: false } }]);
    expect(await replaced.next()).toEqual([{ key: 'k', reason: 'replaced', value: { first: true } }]);
    for (const thread of [deleted, replaced]) thread.tell('enough');
    expect(await Promise.all([deleted.exit, replaced.exit])).toEqual([0, 0]);
  });

  test('that listen can be terminated while others write, and the other listeners go on', async () => {
    using owner = new Cache({ name: 'removal threads' });
    const hear = ({ cairn, data, say }: ThreadTools<{ name: string }>) => {
      const attached = cairn.Cache.attach(data.name);
      attached.on('removal', (events) => say(events.length), { values: true });
      setInterval(() => {}, 1000);
    };
    const writeOn = ({ cairn, data }: ThreadTools<{ name: string }>) => {
      const attached = cairn.Cache.attach(data.name);
      setInterval(() => {
        for (let i = 0; i < 1000; i++) attached.set(`k${i % 10}`, i);
      });
    };
    const heard = listen({ reasons: ['deleted'] }, owner as Cache);
    const writer = startThread(writeOn, { name: 'removal threads' });
    for (let round = 0; round < 5; round++) {
      const listener = startThread(hear, { name: 'removal threads' });
      await listener.next();
      await listener.worker.terminate();
    }
    await writer.worker.terminate();
    owner.set('last', 1);
    owner.delete('last');
    await until(() => heard.length > 0);
    expect(heard).toEqual([{ key: 'last', reason: 'deleted' }]);
  });
});

describe('a listener that does not get to its events before the ring is full', () => {
  test('is told how many it lost, and gets the newest', async () => {
    const heard = listen({ reasons: ['replaced'] });
    const losses: [number, number][] = [];
    cache.on('removals-lost', (count) => losses.push([count, heard.length]));
    const count = 200_000;
    for (let i = 0; i <= count; i++) cache.set('k', i);
    cache.set('last', 1);
    cache.set('last', 2);
    await until(() => heard.at(-1)?.key === 'last');
    const lost = losses.reduce((sum, [each]) => sum + each, 0);
    expect(lost).toBeGreaterThan(0);
    expect(lost + heard.length).toBe(count + 1);
    expect(losses[0]![1]).toBe(0);
  });

  test('loses nothing while it keeps up', async () => {
    const heard = listen();
    const losses: number[] = [];
    cache.on('removals-lost', (count) => losses.push(count));
    for (let round = 0; round < 20; round++) {
      for (let i = 0; i < 5000; i++) cache.set('k', i);
      const expected = (round + 1) * 5000 - 1;
      await until(() => heard.length === expected);
    }
    expect(losses).toEqual([]);
  });
});

describe('a program', () => {
  test('that listens and falls off its end exits', () => {
    const { status, stderr } = runProgram(`
      const cache = new Cache();
      cache.on('removal', () => {}).on('cleared', () => {});
      cache.set('k', 1);
      cache.delete('k');
    `);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });

  test('whose listener throws gets an uncaughtException, and the other listeners are called', () => {
    const { status, stdout } = runProgram(`
      process.on('uncaughtException', (error) => console.log('uncaught', error.message));
      const cache = new Cache();
      cache.on('removal', () => { throw new Error('first'); });
      const timer = setInterval(() => {}, 1000);
      let batches = 0;
      cache.on('removal', (events) => {
        console.log('second', events.length);
        if (++batches === 2) clearInterval(timer);
        else setImmediate(remove);
      });
      const remove = () => {
        cache.set('k', 1);
        cache.delete('k');
      };
      remove();
    `);
    expect({ status, stdout }).toEqual({ status: 0, stdout: 'second 1\nuncaught first\n'.repeat(2) });
  });
});

test('an event says when it leaves out a value that was asked for', async () => {
  using told = new Cache();
  const heard: RemovalEvent[] = [];
  told.on('removal', (events) => heard.push(...events), { values: true });
  told.set('small', 'x'.repeat(4096));
  told.set('large', 'x'.repeat(4097));
  told.deleteMany(['small', 'large']);
  await until(() => heard.length === 2);
  heard.sort((a, b) => (a.key < b.key ? 1 : -1));
  expect(heard).toEqual([
    { key: 'small', reason: 'deleted', value: 'x'.repeat(4096) },
    { key: 'large', reason: 'deleted', valueOmitted: 'too-large' },
  ]);
});
