// One cache for all threads: real worker threads that run the built package.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Cache } from '../../src/index.ts';
import { withCode } from '../support/errors.ts';
import { startThread, type Thread, type ThreadTools, until } from '../support/threads.ts';

const name = 'workers';
let cache: Cache;
let threads: Thread[];
beforeEach(() => {
  cache = new Cache({ name, maxMemory: '64mb' });
  threads = [];
});
afterEach(async () => {
  await Promise.all(threads.map((thread) => thread.worker.terminate()));
  await cache.close();
});

function start<D>(program: (tools: ThreadTools<D>) => unknown, data: D): Thread {
  const thread = startThread(program, data);
  threads.push(thread);
  return thread;
}

test('what one thread sets the others get, values of every kind', async () => {
  cache.set('from main', new Map([[{ a: 1 }, Buffer.from('x')]]));
  const thread = start(
    ({ cairn, data, say }: ThreadTools<{ name: string }>) => {
      const attached = cairn.Cache.attach(data.name);
      say(attached.get('from main'));
      attached.set('from the thread', { text: 'ü', list: [1, null] });
    },
    { name },
  );
  expect(await thread.next()).toEqual(new Map([[{ a: 1 }, new Uint8Array([0x78])]]));
  expect(await thread.exit).toBe(0);
  expect(cache.get('from the thread')).toEqual({ text: 'ü', list: [1, null] });
});

test('counting in four threads loses nothing', async () => {
  const program = ({ cairn, data }: ThreadTools<{ name: string }>) => {
    const attached = cairn.Cache.attach<number>(data.name);
    for (let i = 0; i < 20_000; i++) {
      attached.incr('incr', 1, { initial: 1 });
      if (i % 10 === 0) attached.update('update', (n) => (n ?? 0) + 1);
      if (i % 10 === 0) attached.append('append', 'x');
    }
  };
  cache.set('append', '');
  for (let i = 0; i < 4; i++) start(program, { name });
  expect(await Promise.all(threads.map((thread) => thread.exit))).toEqual([0, 0, 0, 0]);
  expect(cache.get('incr')).toBe(80_000);
  expect(cache.get('update')).toBe(8000);
  expect((cache.get('append') as string).length).toBe(8000);
});

test('every value that a thread reads was written whole by one thread', async () => {
  // Each value says which key it is of and is one character over and over: a mixture would show.
  const program = ({ cairn, data, say }: ThreadTools<{ name: string; seed: number }>) => {
    const attached = cairn.Cache.attach<string>(data.name);
    const keys = Array.from({ length: 64 }, (_, i) => `k${i}`);
    const sizes = [1, 100, 4000, 5000, 70_000];
    let state = data.seed;
    const below = (limit: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * limit);
    };
    const check = (key: string, value: string | undefined) => {
      if (value === undefined) return;
      const [owner, letter] = value.split(':', 2) as [string, string];
      if (owner !== key || value !== `${owner}:${letter}:${letter.repeat(value.length - owner.length - 3)}`) {
        say(`Mixed up: ${key} is ${value.slice(0, 50)}`);
      }
    };
    for (let i = 0; i < 15_000; i++) {
      const key = keys[below(64)]!;
      const letter = String.fromCharCode(97 + below(26));
      const value = `${key}:${letter}:${letter.repeat(sizes[below(5)]!)}`;
      switch (below(8)) {
        case 0:
          attached.set(key, value);
          break;
        case 1:
          attached.setMany([[key, value]]);
          break;
        case 2:
          attached.delete(key);
          break;
        case 3:
          check(key, attached.take(key));
          break;
        case 4: {
          const some = Array.from({ length: 10 }, () => keys[below(64)]!);
          for (const [j, found] of attached.getMany(some).entries()) check(some[j]!, found);
          break;
        }
        default:
          check(key, attached.get(key));
      }
    }
    say('done');
  };
  for (let seed = 1; seed <= 4; seed++) start(program, { name, seed });
  for (const thread of threads) expect(await thread.next()).toBe('done');
});

test('a thread may make a cache, and others attach to it', async () => {
  const thread = start(async ({ cairn, say, hear }: ThreadTools<null>) => {
    const made = new cairn.Cache({ name: 'made by a thread' });
    made.set('a', 1);
    say('made');
    await hear();
    await made.close();
    say('closed');
  }, null);
  expect(await thread.next()).toBe('made');
  const attached = Cache.attach('made by a thread');
  expect(attached.get('a')).toBe(1);
  thread.tell('close');
  expect(await thread.next()).toBe('closed');
  expect(() => attached.get('a')).toThrow(withCode('ERR_CLOSED'));
});

describe('a thread that ends without closing what it holds', () => {
  test('leaves a cache that it made to those that attached to it', async () => {
    const thread = start(({ cairn, say }: ThreadTools<null>) => {
      new cairn.Cache({ name: 'orphan' }).set('a', 1);
      say('made');
      setInterval(() => {}, 1000);
    }, null);
    await thread.next();
    const attached = Cache.attach('orphan');
    await thread.worker.terminate();
    expect(attached.get('a')).toBe(1);
    expect(attached.set('b', 2)).toBe('stored');
    await attached.close();
    expect(Cache.names).not.toContain('orphan');
  });

  test('takes with it a cache that no other thread holds', async () => {
    const thread = start(({ cairn }: ThreadTools<null>) => {
      new cairn.Cache({ name: 'with it' }).set('a', 1);
    }, null);
    await thread.exit;
    expect(Cache.names).not.toContain('with it');
  });

  test('leaves a cache that works, whatever it was doing when it was terminated', async () => {
    const program = ({ cairn, data, say }: ThreadTools<{ name: string }>) => {
      const attached = cairn.Cache.attach<unknown>(data.name);
      const value = 'x'.repeat(20_000);
      say('begins');
      for (let i = 0; ; i++) {
        const key = `k${i % 500}`;
        attached.set(key, i % 3 === 0 ? value : { i, value: value.slice(0, i % 2000) });
        attached.get(key);
        attached.getMany([key, 'k1', 'k2']);
        attached.setMany([
          [key, value],
          ['k3', 5],
        ]);
        if (i % 100 === 0) for (const _key of attached.keys({ limit: 50 })) if (i % 200 === 0) break;
        if (i % 50 === 0) new cairn.Cache().set('a', value);
        if (i % 500 === 0) attached.clear();
      }
    };
    for (let round = 0; round < 15; round++) {
      const thread = start(program, { name });
      await thread.next();
      // At some moment of its loop, or while it is still warming up.
      for (let i = 0; i < round * 3; i++) cache.set(`main ${i}`, i);
      await thread.worker.terminate();
      cache.set('a', round);
      expect(cache.get('a')).toBe(round);
    }
  });

  test('leaves no cache, even if it is terminated while it loads the addon', async () => {
    for (let round = 0; round < 10; round++) {
      const thread = start(({ cairn }: ThreadTools<null>) => new cairn.Cache({ name: 'too late' }), null);
      for (let i = 0; i < round; i++) await new Promise((resolve) => setImmediate(resolve));
      await thread.worker.terminate();
    }
    await until(() => !Cache.names.includes('too late'));
  });
});

test('when the owner closes the cache, threads at work get ERR_CLOSED', async () => {
  const program = ({ cairn, data, say }: ThreadTools<{ name: string }>) => {
    const attached = cairn.Cache.attach<unknown>(data.name);
    say('begins');
    try {
      for (let i = 0; ; i++) {
        attached.set(`k${i % 1000}`, 'x'.repeat(i % 9000));
        attached.getMany(['k1', 'k2', `k${i % 1000}`]);
      }
    } catch (error) {
      say((error as { code: string }).code);
    }
  };
  for (let round = 0; round < 5; round++) {
    const own = new Cache({ name: `closing ${round}`, maxMemory: '16mb' });
    const both = [start(program, { name: `closing ${round}` }), start(program, { name: `closing ${round}` })];
    for (const thread of both) expect(await thread.next()).toBe('begins');
    await own.close();
    for (const thread of both) expect(await thread.next()).toBe('ERR_CLOSED');
    expect(await Promise.all(both.map((thread) => thread.exit))).toEqual([0, 0]);
  }
});

test('opening, joining and closing one name in four threads at once', async () => {
  const program = async ({ cairn, say }: ThreadTools<null>) => {
    const codes = new Set<string>();
    for (let i = 0; i < 300; i++) {
      try {
        const cache = i % 2 === 0 ? await cairn.Cache.open({ name: 'contested' }) : cairn.Cache.attach('contested');
        cache.set('a', i);
        await cache.close();
      } catch (error) {
        codes.add((error as { code: string }).code);
      }
    }
    say([...codes].sort());
  };
  for (let i = 0; i < 4; i++) start(program, null);
  for (const thread of threads) {
    for (const code of (await thread.next()) as string[]) expect(['ERR_CLOSED', 'ERR_NO_SUCH_CACHE']).toContain(code);
  }
  expect(Cache.names).not.toContain('contested');
});
