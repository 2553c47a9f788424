// Processes that end, one way or another: what the next one finds. They use the built package, because Node cannot run
// TypeScript.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { describe, expect, test } from 'vitest';
import { DataDirectories } from '../support/data-directories.ts';
import { skipUnless } from '../support/skip.ts';
import { runProgram } from '../support/threads.ts';

const data = new DataDirectories('process');
const library = new URL('../../dist/index.js', import.meta.url).href;

describe('a process that is killed', () => {
  // Each program tells how many writes were acknowledged: at least those have to be there.
  const programs: Record<string, string> = {
    'with promised writes': `
      let next = 0;
      const write = async () => {
        for (;;) {
          const i = next++;
          await cache.promises.set('k' + i, i);
          acknowledge(i);
        }
      };
      for (let writer = 0; writer < 32; writer++) write();`,
    'with sync()': `
      for (let i = 0; ; ) {
        const from = i;
        for (const end = i + 200; i < end; i++) cache.set('k' + i, i);
        await cache.sync();
        for (let j = from; j < i; j++) acknowledge(j);
      }`,
    'while snapshots are taken': `
      for (let i = 0; ; ) {
        const from = i;
        for (const end = i + 200; i < end; i++) cache.set('k' + i, i);
        await (i % 600 === 0 ? cache.snapshot() : cache.sync());
        for (let j = from; j < i; j++) acknowledge(j);
      }`,
  };

  test.each(Object.entries(programs))('%s leaves what was acknowledged', async (_name, program) => {
    const directory = data.fresh();
    for (let life = 0; life < 3; life++) {
      const code = `
        const { Cache } = await import(${JSON.stringify(library)});
        const cache = await Cache.open({ data: ${JSON.stringify(directory)}, segmentSize: 65536, maxMemory: '256mb' });
        let said = '';
        const acknowledge = (i) => process.stdout.write(i + '\\n');
        ${program}`;
      const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let text = '';
      child.stdout.on('data', (chunk) => {
        text += chunk;
        if (text.length > 20_000) child.kill('SIGKILL');
      });
      await once(child, 'close');
      expect(child.signalCode).toBe('SIGKILL');
      const acknowledged = text.split('\n').slice(0, -1).map(Number);
      const cache = await data.open<number>(directory, { segmentSize: 65_536, maxMemory: '256mb' });
      expect(acknowledged.length).toBeGreaterThan(1000);
      for (const i of acknowledged) expect(cache.get(`k${i}`)).toBe(i);
      await cache.close();
    }
  });
});

describe('a process that ends with writes in flight', () => {
  const fill = "for (let i = 0; i < 20_000; i++) cache.set('k' + i, 'x'.repeat(100));";
  test.each<[string, string, string, number]>([
    ['by process.exit()', 'always', `${fill} process.exit(3);`, 3],
    ['by process.exit(), synced now and then', '1000ms', `${fill} process.exit(3);`, 3],
    ['by process.exit(), never synced', 'none', `${fill} process.exit(0);`, 0],
    ['by falling off its end', 'always', fill, 0],
    ['by an error', 'always', `${fill} throw new Error('on purpose');`, 1],
    ['by an error later', 'none', `setImmediate(() => { ${fill} throw new Error('on purpose'); });`, 1],
    ['in its own exit handler', 'always', `process.prependListener('exit', () => { ${fill} });`, 0],
    ['in a snapshot', 'always', `${fill} cache.snapshot(); process.exit(0);`, 0],
    ['while it closes', 'always', `${fill} cache.close(); process.exit(0);`, 0],
    ['with close()', 'always', `${fill} await cache.close();`, 0],
    ['with destroy()', 'none', `${fill} await cache.destroy();`, 0],
    ['as a disposable', 'always', `${fill} cache[Symbol.dispose]();`, 0],
    [
      'by process.exit() in a worker that writes, then its own',
      'always',
      `const worker = startWorker("const c = Cache.attach('p'); for (let i = 0; i < 20000; i++) c.set('k' + i, 'x'); process.exit(0);");
       worker.on('exit', () => process.exit(5));`,
      5,
    ],
  ])('%s loses none of them', async (_name, sync, code, status) => {
    const directory = data.fresh();
    const opening = `const cache = await Cache.open({ name: 'p', data: ${JSON.stringify(directory)}, sync: ${JSON.stringify(sync)} });`;
    const result = runProgram(`${opening} ${code}`);
    expect(result.status, result.stderr).toBe(status);
    expect(result.stderr).not.toMatch(/CHECK failed|FATAL|Segmentation/);
    const cache = await data.open(directory);
    expect(cache.size).toBe(20_000);
    await cache.close();
  });

  test('does not wait for a log that takes nothing', async () => {
    const directory = data.fresh();
    // The log's thread is gone for good.
    const result = runProgram(`
      const cache = await Cache.open({ data: ${JSON.stringify(directory)} });
      cache.on('log', ({ kind }) => { if (kind === 'failed') { cache.set('a', 1); console.log(kind); process.exit(0); } });
      process.chdir('/');
      const { LogKeeper } = await import(${JSON.stringify(library.replace('index.js', 'scribe/index.js'))});
      const { handleOf } = await import(${JSON.stringify(library.replace('index.js', 'cache.js'))});
      const keeper = LogKeeper.of(handleOf(cache).cacheId);
      const end = () => keeper.thread === undefined ? setTimeout(end, 1) : keeper.thread.terminate();
      cache.on('log', ({ kind }) => { if (kind === 'restarted') end(); });
      end();
      setTimeout(() => {}, 15_000);
    `);
    expect(result.stdout).toBe('failed\n');
    expect(result.status, result.stderr).toBe(0);
  });

  test('does not stay alive for its log', () => {
    const result = runProgram(`
      const cache = await Cache.open({ data: ${JSON.stringify(data.fresh())}, sync: '10ms' });
      cache.on('log', () => {});
      cache.set('a', 1);
      console.log('done');`);
    expect(result.stdout).toBe('done\n');
    expect(result.status, result.stderr).toBe(0);
  });
});

// Fewer processors, and so fewer shards; more of them the next time.
const canPin = process.platform === 'linux' && spawnSync('taskset', ['-c', '0', 'true']).status === 0;
skipUnless(
  canPin && availableParallelism() > 1,
  'needs two processors, and taskset to take one away',
  'platform',
)('a directory is read with another number of processors than it was written with', () => {
  const directory = data.fresh();
  const live = (command: string[]): { shards: number; before: number; after: number; wrong: number } => {
    const code = `
        const { Cache } = await import(${JSON.stringify(library)});
        const cache = await Cache.open({ data: ${JSON.stringify(directory)}, maxMemory: '512mb', sync: 'none' });
        const before = cache.size;
        let wrong = 0;
        for (let i = 0; i < before; i++) if (cache.get('k' + i) !== i) wrong++;
        for (let i = before; i < before + 5000; i++) cache.set('k' + i, i);
        await cache.sync();
        console.log(JSON.stringify({ shards: cache.options.shards, before, after: cache.size, wrong }));
        process.kill(process.pid, 'SIGKILL');`;
    const [program = '', ...args] = [...command, process.execPath, '--input-type=module', '-e', code];
    const { stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', timeout: 60_000, killSignal: 'SIGKILL' });
    if (stdout === '') throw new Error(stderr);
    return JSON.parse(stdout);
  };
  const one = ['taskset', '-c', '0'];
  const lives = [live([]), live(one), live([])];
  expect(lives.map(({ before, after, wrong }) => [before, after, wrong])).toEqual([
    [0, 5000, 0],
    [5000, 10_000, 0],
    [10_000, 15_000, 0],
  ]);
  expect(lives[1]!.shards).toBeLessThan(lives[0]!.shards);
  expect(lives[2]!.shards).toBe(lives[0]!.shards);
});
