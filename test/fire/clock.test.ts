// The machine's clock is set by an hour, forwards and back, under a cache with a log: while it runs, and from one of
// its lives to the next. Processes of their own have a clock that can be set (harness/wall-clock.ts).

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { afterEach, expect } from 'vitest';
import { DataDirectories } from '../support/data-directories.ts';
import { skipUnless } from '../support/skip.ts';
import { libraryUrl } from './harness/target.ts';
import { WallClock } from './harness/wall-clock.ts';

const data = new DataDirectories('clock');
const hasCompiler = process.platform === 'linux' && spawnSync('cc', ['--version']).status === 0;
const withClock = skipUnless(hasCompiler, 'needs a C compiler on Linux', 'platform');

const HOUR_MS = 3_600_000;
const TTL_MS = 600_000;

const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** A process with the cache of a directory, of which expressions can be asked. */
async function start(directory: string, clock: WallClock) {
  const code = `
    const { Cache } = await import(${JSON.stringify(libraryUrl)});
    const cache = await Cache.open({ data: ${JSON.stringify(directory)}, sync: '5ms', snapshot: { every: 20 } });
    const { createInterface } = await import('node:readline');
    console.log('0');
    for await (const line of createInterface({ input: process.stdin })) {
      const told = await eval(line);
      console.log(JSON.stringify(told, (_, value) => (typeof value === 'bigint' ? String(value) : value)) ?? 'null');
    }`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, ...clock.environment },
  });
  ends.push(() => child.kill('SIGKILL'));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const hear = async (): Promise<unknown> => {
    const { value, done } = await lines.next();
    if (done) throw new Error('The process has ended');
    return JSON.parse(value);
  };
  await hear();
  return {
    ask: (expression: string): Promise<unknown> => {
      child.stdin.write(`${expression.replaceAll('\n', ' ')}\n`);
      return hear();
    },
    kill: async (): Promise<void> => {
      child.kill('SIGKILL');
      await once(child, 'close');
    },
  };
}

const write = (key: string): string => `cache.promises.set('${key}', 'value', { ttl: ${TTL_MS} })`;
const left = (key: string): string => `cache.getRemainingTTL('${key}')`;
const keys = `[...cache.keys()].sort()`;
/** Whether what goes by time still goes: a snapshot, and a sync. */
const goesOn = `(async () => {
  const before = cache.stats().log.snapshots;
  while (cache.stats().log.snapshots < before + 2) {
    await cache.promises.set('busy', 'value');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await cache.sync();
  return true;
})()`;

withClock(
  'an hour back or forwards takes nothing that has no expiry, and gives back nothing that has expired',
  async () => {
    const directory = data.fresh();
    const clock = new WallClock(data.root);

    const first = await start(directory, clock);
    await first.ask(`cache.promises.set('forever', 'value')`);
    await first.ask(write('before'));
    clock.set(-HOUR_MS);
    expect(await first.ask('Date.now()')).toBeLessThan(Date.now() - HOUR_MS / 2);
    await first.ask(write('after'));
    for (const key of ['before', 'after']) {
      expect(await first.ask(left(key))).toBeGreaterThan(TTL_MS - 60_000);
      expect(await first.ask(left(key))).toBeLessThanOrEqual(TTL_MS);
    }
    expect(await first.ask(goesOn)).toBe(true);
    const version = BigInt((await first.ask(`cache.getWithCas('after').cas`)) as string);
    await first.kill();

    // Set back still, and so it seems that what was written is from the future.
    const second = await start(directory, clock);
    expect(await second.ask(keys)).toEqual(['after', 'before', 'busy', 'forever']);
    for (const key of ['before', 'after']) {
      expect(await second.ask(left(key))).toBeGreaterThan(TTL_MS - 60_000);
      expect(await second.ask(left(key))).toBeLessThanOrEqual(TTL_MS);
    }
    await second.ask(write('new'));
    expect(BigInt((await second.ask(`cache.getWithCas('new').cas`)) as string)).toBeGreaterThan(version);
    // While it runs, time to live is what has passed, whatever the clock says.
    clock.set(HOUR_MS);
    expect(await second.ask(goesOn)).toBe(true);
    expect(await second.ask(left('new'))).toBeGreaterThan(TTL_MS - 60_000);
    await second.ask(write('ahead'));
    await second.kill();

    // Whether what was written before the jump is over now, is a matter of whether a snapshot was taken behind it. It
    // does not live longer for it, and what has no expiry or was written later is there.
    const third = await start(directory, clock);
    const there = (await third.ask(keys)) as string[];
    expect(there).toEqual(expect.arrayContaining(['ahead', 'busy', 'forever']));
    for (const key of there.filter((name) => name !== 'busy' && name !== 'forever')) {
      expect(await third.ask(left(key)), key).toBeLessThanOrEqual(TTL_MS);
    }
    await third.kill();

    // An hour has passed, although the clock is set back to what it was: nothing that is over comes back.
    clock.set(0);
    const fourth = await start(directory, clock);
    const still = (await fourth.ask(keys)) as string[];
    expect(there).toEqual(expect.arrayContaining(still));
    expect(still).toEqual(expect.arrayContaining(['ahead', 'busy', 'forever']));
    expect(await fourth.ask(left('ahead'))).toBeLessThanOrEqual(TTL_MS);
    expect(await fourth.ask(left('ahead'))).toBeGreaterThan(0);
    await fourth.ask(write('last'));
    expect(await fourth.ask(left('last'))).toBeLessThanOrEqual(TTL_MS);
    expect(await fourth.ask(goesOn)).toBe(true);
    await fourth.kill();
  },
  60_000,
);
