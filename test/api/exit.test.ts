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
      'that calls process.exit in its own exit handler',
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
      { encoding: 'utf8', timeout: 60_000, killSignal: 'SIGKILL' },
    );
    expect(result.stdout, result.stderr).toBe('ended\n');
    expect(result.status).toBe(0);
  });

  test.each<[string, string]>([
    ['process.exit', 'process.exit(3)'],
    ['an error', "setImmediate(() => { throw new Error('on purpose'); })"],
  ])('that ends by %s with workers at work ends', (_name, end) => {
    const result = runProgram(`
      // Held, as a module holds its own: the cache ends with its last handle.
      globalThis.cache = new Cache({ name: 'shared' });
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
  const dist = fileURLToPath(new URL('../../dist', import.meta.url));
  const addon =
    process.env['CAIRN_NATIVE_PATH'] ??
    fileURLToPath(new URL('../../native/build/Release/cairn.node', import.meta.url));

  /**
   * Runs a program that finds two copies of the package as `one` and `two`; `between` comes before the second is
   * loaded.
   */
  function runWithCopies(code: string, { ownAddons, between = '' }: { ownAddons: boolean; between?: string }) {
    const folder = mkdtempSync(join(tmpdir(), 'cairn-copies-'));
    try {
      for (const copy of ['one', 'two']) {
        cpSync(dist, join(folder, copy, 'dist'), { recursive: true });
        if (ownAddons) cpSync(addon, join(folder, copy, 'native/build/Release/cairn.node'));
        cpSync(fileURLToPath(new URL('../../package.json', import.meta.url)), join(folder, copy, 'package.json'));
        symlinkSync(fileURLToPath(new URL('../../node_modules', import.meta.url)), join(folder, copy, 'node_modules'));
      }
      const { CAIRN_NATIVE_PATH: _unset, ...env } = process.env;
      return spawnSync(
        process.execPath,
        [
          '--input-type=module',
          '--eval',
          `const one = await import(${JSON.stringify(`file://${folder}/one/dist/index.js`)});
           ${between}
           const two = await import(${JSON.stringify(`file://${folder}/two/dist/index.js`)});
           ${code}`,
        ],
        {
          encoding: 'utf8',
          timeout: 60_000,
          killSignal: 'SIGKILL',
          env: ownAddons ? env : { ...env, CAIRN_NATIVE_PATH: addon },
          cwd: fileURLToPath(new URL('../..', import.meta.url)),
        },
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  }

  test.each([
    ['as Node keeps it', ''],
    // As test runners do that load modules anew for each file.
    [
      'initialised anew',
      `const { createRequire } = await import('node:module');
       const modules = createRequire(import.meta.url).cache;
       for (const file of Object.keys(modules)) delete modules[file];`,
    ],
  ])('share their caches if they share the addon, %s', (_name, between) => {
    const result = runWithCopies(
      `const cache = new one.Cache({ name: 'x' });
       const other = two.Cache.attach('x');
       console.log(one.Cache === two.Cache, other instanceof one.Cache, two.Cache.names);
       for (let i = 0; i < 5000; i++) {
         cache.set('k' + i, { i });
         if (other.get('k' + i).i !== i) throw new Error('k' + i);
         other.set('t' + i, 'text'.repeat(i % 3000));
         if (cache.get('t' + i) !== 'text'.repeat(i % 3000)) throw new Error('t' + i);
       }
       const keys = Array.from({ length: 300 }, (_, i) => 'k' + i);
       console.log(other.getMany(keys).every(({ i }, at) => i === at), cache.getMany(keys).length);
       let loads = 0;
       const load = async () => (await new Promise((resolve) => setImmediate(resolve)), ++loads);
       console.log(await Promise.all([cache.fetch('once', load), other.fetch('once', load)]), loads);
       await Promise.all(keys.flatMap((key) => [cache.promises.get(key), other.promises.delete(key)]));
       let heard; // Which keeps nothing alive by itself.
       other.on('removal', (batch) => { heard = batch; });
       cache.delete('t1');
       while (heard === undefined) await new Promise((resolve) => setImmediate(resolve));
       console.log(heard.map(({ key }) => key));
       await other.close();
       console.log(cache.get('t2'), two.Cache.names);
       await cache.close();
       console.log(two.Cache.names);`,
      { ownAddons: false, between },
    );
    expect(result.stdout, result.stderr).toBe(
      "false false [ 'x' ]\ntrue 300\n[ 1, 1 ] 1\n[ 't1' ]\ntexttext [ 'x' ]\n[]\n",
    );
    expect(result.status).toBe(0);
  });

  test('two packages with an addon each do not disturb one another', () => {
    const result = runWithCopies(
      `const a = new one.Cache({ name: 'x' });
       const b = new two.Cache({ name: 'x' });
       for (let i = 0; i < 5000; i++) { a.set('k' + i, { i }); b.set('k' + i, 'x' + i, { ttl: 5 }); a.get('k' + i); b.get('k' + i); }
       console.log(a.size, one.Cache.names, two.Cache.names);`,
      { ownAddons: true },
    );
    expect(result.stdout, result.stderr).toBe("5000 [ 'x' ] [ 'x' ]\n");
    expect(result.status).toBe(0);
  });
});
