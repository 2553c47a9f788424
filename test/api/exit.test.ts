// How a process ends: at once, with the right code, whatever was under way.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { runProgram } from '../support/threads.ts';

const FILL = "for (let i = 0; i < 50_000; i++) cache.set('k' + i, 'x'.repeat(100), i % 2 ? { ttl: 20 } : undefined);";

describe('a process', () => {
  test.each<[string, string, number]>([
    [
      'that falls off its end',
      "const cache = new Cache({ name: 'x' }); cache.set('a', 1); console.log(cache.get('a'));",
      0,
    ],
    ['that falls off its end with a full cache', `const cache = new Cache(); ${FILL} console.log(1);`, 0],
    [
      'that falls off its end during a walk',
      `const cache = new Cache(); ${FILL} const walk = cache.keys(); walk.next(); console.log(1);`,
      0,
    ],
    ['that closes first', `const cache = new Cache(); ${FILL} await cache.close(); console.log(1);`, 0],
    ['that clears and leaves', `const cache = new Cache(); ${FILL} cache.clear(); console.log(1);`, 0],
    ['that calls process.exit', `const cache = new Cache(); ${FILL} console.log(1); process.exit(3);`, 3],
    [
      'that calls process.exit in an exit handler of its own',
      `const cache = new Cache(); process.on('exit', () => { cache.set('a', 1); console.log(cache.get('a')); process.exit(4); });`,
      4,
    ],
    ['that throws', `const cache = new Cache(); ${FILL} console.log(1); throw new Error('on purpose');`, 1],
    [
      'that throws later',
      `const cache = new Cache(); console.log(1); setImmediate(() => { throw new Error('on purpose'); });`,
      1,
    ],
    ['that rejects', `const cache = new Cache(); console.log(1); Promise.reject(new Error('on purpose'));`, 1],
    [
      'that ends 64 caches at once',
      `globalThis.caches = Array.from({ length: 64 }, () => new Cache({ maxMemory: '4mb' })); console.log(1);`,
      0,
    ],
    [
      'that uses its cache in beforeExit',
      `const cache = new Cache(); process.once('beforeExit', () => { cache.set('a', 1); console.log(cache.get('a')); });`,
      0,
    ],
  ])('%s ends', (_name, code, status) => {
    const result = runProgram(code);
    expect(result.stdout).toBe('1\n');
    expect(result.status, result.stderr).toBe(status);
    expect(result.stderr).not.toMatch(/CHECK failed|FATAL|Segmentation/);
  });

  test('whose worker alone had loaded the addon ends after it', () => {
    const result = spawnSync(
      process.execPath,
      [
        '--input-type=module',
        '--eval',
        `import { Worker } from 'node:worker_threads';
         const library = ${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)};
         const code = 'import(' + JSON.stringify(library) + ').then(({ Cache }) => { const c = new Cache(); for (let i = 0; i < 20000; i++) c.set("k" + i, "x", { ttl: 5 }); })';
         for (let i = 0; i < 3; i++) {
           await new Promise((resolve) => new Worker(code, { eval: true }).on('exit', resolve));
           await new Promise((resolve) => setTimeout(resolve, 20)); // the janitor's turn, with no environment left
         }
         console.log('ended');`,
      ],
      { encoding: 'utf8', timeout: 20_000, killSignal: 'SIGKILL' },
    );
    expect(result.stdout, result.stderr).toBe('ended\n');
    expect(result.status).toBe(0);
  });

  test.each<[string, string]>([
    ['process.exit', 'process.exit(3)'],
    ['an error', "setImmediate(() => { throw new Error('on purpose'); })"],
  ])('that ends by %s with workers at work ends', (_name, end) => {
    const result = runProgram(`
      const cache = new Cache({ name: 'shared' });
      const work = \`
        const shared = Cache.attach('shared');
        import('node:worker_threads').then(({ parentPort }) => {
          parentPort.postMessage('at work');
          for (let i = 0; ; i++) {
            shared.set('k' + i % 1000, 'x'.repeat(i % 9000), { ttl: 5 });
            shared.get('k1');
            shared.getMany(['k2', 'k3']);
          }
        });\`;
      let begun = 0;
      for (let i = 0; i < 3; i++) {
        startWorker(work).once('message', () => {
          if (++begun < 3) return;
          console.log('all at work');
          ${end};
        });
      }`);
    expect(result.stdout, result.stderr).toContain('all at work');
    expect(result.status).toBe(end.includes('3') ? 3 : 1);
    expect(result.stderr).not.toMatch(/CHECK failed|FATAL|Segmentation/);
  });
});

describe('two copies of the module in one thread', () => {
  test('share their caches if they share the addon', () => {
    const result = runProgram(`
      const other = await import(${JSON.stringify(new URL('../../dist/index.js?again', import.meta.url).href)});
      const cache = new Cache({ name: 'x' });
      cache.set('a', { deep: 1 });
      console.log(other.Cache === Cache, other.Cache.attach('x').get('a').deep);
      for (let i = 0; i < 1000; i++) { cache.set('k' + i, { i }); other.Cache.attach('x').get('k' + i); }
      console.log(cache.get('k5').i, other.Cache.names);
    `);
    // The query makes another instance of index.js alone; its imports are the same modules.
    expect(result.stdout, result.stderr).toContain("1\n5 [ 'x' ]\n");
    expect(result.status).toBe(0);
  });

  test('two packages with an addon each do not disturb one another', () => {
    const folder = mkdtempSync(join(tmpdir(), 'cairn-copies-'));
    try {
      const dist = fileURLToPath(new URL('../../dist', import.meta.url));
      const addon =
        process.env['CAIRN_NATIVE_PATH'] ??
        fileURLToPath(new URL('../../native/build/Release/cairn.node', import.meta.url));
      for (const copy of ['one', 'two']) {
        cpSync(dist, join(folder, copy, 'dist'), { recursive: true });
        cpSync(addon, join(folder, copy, 'native/build/Release/cairn.node'));
        cpSync(fileURLToPath(new URL('../../package.json', import.meta.url)), join(folder, copy, 'package.json'));
        symlinkSync(fileURLToPath(new URL('../../node_modules', import.meta.url)), join(folder, copy, 'node_modules'));
      }
      const { CAIRN_NATIVE_PATH: _unset, ...env } = process.env;
      const result = spawnSync(
        process.execPath,
        [
          '--input-type=module',
          '--eval',
          `const one = await import(${JSON.stringify(`file://${folder}/one/dist/index.js`)});
           const two = await import(${JSON.stringify(`file://${folder}/two/dist/index.js`)});
           const a = new one.Cache({ name: 'x' });
           const b = new two.Cache({ name: 'x' });
           for (let i = 0; i < 5000; i++) { a.set('k' + i, { i }); b.set('k' + i, 'x' + i, { ttl: 5 }); a.get('k' + i); b.get('k' + i); }
           console.log(a.size, one.Cache.names, two.Cache.names);`,
        ],
        {
          encoding: 'utf8',
          timeout: 20_000,
          killSignal: 'SIGKILL',
          env,
          cwd: fileURLToPath(new URL('../..', import.meta.url)),
        },
      );
      expect(result.stdout, result.stderr).toBe("5000 [ 'x' ] [ 'x' ]\n");
      expect(result.status).toBe(0);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
