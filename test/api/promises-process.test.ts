// Promised verbs and the life of processes and threads: what keeps a process alive and what does not, and that ending
// a thread at any moment harms no other. The programs run in separate processes, against the built package.
import { describe, expect, test } from 'vitest';
import { Cache } from '../../src/index.ts';
import { withCode } from '../support/errors.ts';
import { runProgram, startThread, until } from '../support/threads.ts';

describe('a program', () => {
  test.each([
    [
      'that awaits its calls',
      `const cache = new Cache(); console.log(await cache.promises.set('a', 1));`,
      'stored\n',
      0,
    ],
    [
      'that does not look at them again',
      `const cache = new Cache(); cache.promises.set('a', 1).then(console.log);`,
      'stored\n',
      0,
    ],
    [
      'whose last calls come of answers',
      `const cache = new Cache(); let n = 0; const go = () => cache.promises.get('a').then(() => ++n < 200 ? go() : console.log(n)); go();`,
      '200\n',
      0,
    ],
    [
      'that closes the cache behind its calls',
      `const cache = new Cache(); const calls = Array.from({ length: 3000 }, (_, i) => cache.promises.set('k' + i, i));
       cache.close().then(() => console.log('closed')); Promise.all(calls).then((all) => console.log(all.length));`,
      '3000\nclosed\n',
      0,
    ],
    [
      'that has several caches and closes none',
      `const caches = Array.from({ length: 5 }, () => new Cache({ maxMemory: '4mb', shards: 1 }));
       console.log((await Promise.all(caches.map((cache) => cache.promises.set('a', 1)))).join());`,
      'stored,stored,stored,stored,stored\n',
      0,
    ],
    [
      'that exits with calls in the queue',
      `const cache = new Cache(); for (let i = 0; i < 5000; i++) cache.promises.set('k' + i, i); process.exit(7);`,
      '',
      7,
    ],
    [
      'that exits with calls in flight',
      `const cache = new Cache(); await cache.promises.get('a');
       for (let i = 0; i < 20000; i++) cache.promises.set('k' + i, 'v'.repeat(i % 5000)).catch(() => {});
       setImmediate(() => process.exit(7));`,
      '',
      7,
    ],
    [
      'that exits while a thread starts',
      `const cache = new Cache(); cache.promises.get('a'); setImmediate(() => process.exit(7));`,
      '',
      7,
    ],
    [
      'that exits while it closes',
      `const cache = new Cache(); await cache.promises.get('a'); cache.close(); process.exit(7);`,
      '',
      7,
    ],
    [
      'that fails with calls in flight',
      `const cache = new Cache(); await cache.promises.get('a'); cache.promises.set('a', 'v'.repeat(900000));
       setImmediate(() => { process.on('uncaughtException', () => process.exit(9)); throw new Error('on purpose'); });`,
      '',
      9,
    ],
    [
      'that disposes of the cache while calls are in flight',
      `const cache = new Cache(); await cache.promises.get('a');
       const call = cache.promises.set('a', 1).catch((error) => error.code); cache[Symbol.dispose](); console.log(await call);`,
      'ERR_CLOSED\n',
      0,
    ],
  ])('%s ends as it should', (_, code, stdout, status) => {
    expect(runProgram(code)).toMatchObject({ stdout, stderr: '', status });
  });
});

describe('threads', () => {
  test('each have lanes of their own, on one cache', async () => {
    const name = 'promises of threads';
    const cache = new Cache({ name });
    const programs = Array.from({ length: 3 }, () =>
      startThread(
        async ({ cairn, data, say }) => {
          const attached = cairn.Cache.attach<number>(data.name);
          const calls = Array.from({ length: 500 }, () => attached.promises.incr('n', 1, { initial: 1 }));
          say((await Promise.all(calls)).length);
          await attached.close();
        },
        { name },
      ),
    );
    expect(await Promise.all(programs.map((thread) => thread.next()))).toEqual([500, 500, 500]);
    expect(await Promise.all(programs.map((thread) => thread.exit))).toEqual([0, 0, 0]);
    expect(cache.get('n')).toBe(1500);
    await cache.close();
  });

  test('that end with calls in flight take their lanes with them', async () => {
    const name = 'promises of a dying thread';
    const cache = new Cache({ name });
    for (let deaths = 0; deaths < 5; deaths++) {
      const thread = startThread(
        async ({ cairn, data, say }) => {
          const attached = cairn.Cache.attach(data.name);
          await attached.promises.set('alive', 1);
          say('ready');
          for (;;)
            await Promise.all(
              Array.from({ length: 100 }, (_, i) => attached.promises.set(`k${i}`, 'v'.repeat(i * 100))),
            );
        },
        { name },
      );
      await thread.next();
      await until(() => cache.size > 50);
      await thread.worker.terminate();
      cache.clear();
      expect(await cache.promises.set('a', 1)).toBe('stored');
    }
    await cache.close();
    await expect(cache.promises.get('a')).rejects.toThrow(withCode('ERR_CLOSED'));
  });

  test('that fall off their end leave nothing running', async () => {
    const thread = startThread(async ({ cairn, say }) => {
      const own = new cairn.Cache();
      say(await own.promises.set('a', 1));
    }, {});
    expect(await thread.next()).toBe('stored');
    expect(await thread.exit).toBe(0);
  });
});

test('twenty caches at once keep their entries apart', async () => {
  const caches = Array.from({ length: 20 }, () => new Cache<number>({ maxMemory: '4mb', shards: 1 }));
  await Promise.all(
    caches.flatMap((cache, i) => Array.from({ length: 100 }, (_, j) => cache.promises.set(`k${j}`, i))),
  );
  for (const [i, cache] of caches.entries()) {
    expect(new Set(await cache.promises.getMany(Array.from({ length: 100 }, (_, j) => `k${j}`)))).toEqual(new Set([i]));
  }
  await Promise.all(caches.map((cache) => cache.close()));
});

describe('cache.close()', () => {
  test('finishes promised calls before it ends the cache, and gives one promise', async () => {
    const cache = new Cache();
    const calls = Array.from({ length: 1000 }, (_, i) => cache.promises.set(`k${i}`, i));
    const closing = cache.close();
    expect(cache.close()).toBe(closing);
    expect(cache.closed).toBe(false);
    await expect(cache.promises.get('a')).rejects.toThrow(withCode('ERR_CLOSED'));
    await closing;
    expect(cache.closed).toBe(true);
    expect(new Set(await Promise.all(calls))).toEqual(new Set(['stored']));
  });

  test('without promised calls it has closed the cache when it returns', () => {
    const cache = new Cache();
    void cache.close();
    expect(cache.closed).toBe(true);
  });
});

describe('cache.destroy()', () => {
  test('ends everything now and says of each call what became of it', async () => {
    const cache = new Cache();
    await cache.promises.get('a');
    const call = cache.promises.set('a', 1).catch((error: unknown) => error);
    const ending = cache.destroy();
    expect(cache.closed).toBe(true);
    expect(await call).toEqual(withCode('ERR_CLOSED', /set "a" was not done/));
    await ending;
    await cache.destroy();
    await cache.close();
    expect(() => cache.get('a')).toThrow(withCode('ERR_CLOSED'));
    await expect(cache.promises.get('a')).rejects.toThrow(withCode('ERR_CLOSED'));
  });
});
