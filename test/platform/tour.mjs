// Every part of the package once, in a plain program: what `npm run check` runs on platforms that have no vitest here
// (Windows, ARM), under an emulator. platform.test.ts runs it on this one.
//
//   node tour.mjs INDEX FOLDER [RUNNER]     INDEX: path of dist/index.js. FOLDER: an empty one, for data.
//
// RUNNER is what starts another process of this Node, as a JSON array; by default process.execPath does.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import { connect } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { isMainThread, Worker, workerData } from 'node:worker_threads';

const self = fileURLToPath(import.meta.url);
const given = isMainThread ? process.argv.slice(2) : workerData.args;
const [index, folder, runner = JSON.stringify([process.execPath])] = given;
// The thread that is to do without the package does not load it either.
const isHost = isMainThread && given[3] === '--host';
const { Cache, serve } = isHost ? {} : await import(pathToFileURL(resolve(index)).href);

const parts = {
  async values() {
    const cache = new Cache({ maxMemory: '64mb', maxValueBytes: '4mb' });
    const values = [
      'text',
      'žluťoučký 🐎',
      '',
      42,
      -0.5,
      2n ** 70n,
      true,
      null,
      [1, { a: 'b' }],
      new Map([[1, new Date(0)]]),
    ];
    for (const [n, value] of values.entries()) {
      cache.set(`k${n}`, value);
      assert.deepEqual(cache.get(`k${n}`), value);
    }
    const bytes = Buffer.alloc(3_000_000, 7);
    cache.set('large', bytes);
    assert.ok(bytes.equals(cache.get('large')));
    const long = 'x'.repeat(60_000);
    cache.set(long, 'long key');
    assert.equal(cache.get(long), 'long key');
    assert.equal(cache.incr('count', 5, { initial: 5 }), 5);
    assert.equal(cache.incr('count'), 6);
    const { cas } = cache.getWithCas('k0');
    assert.equal(cache.cas('k0', 'other', cas), 'stored');
    assert.equal(cache.cas('k0', 'late', cas), 'exists');
    assert.equal(cache.append('k0', '!'), 'stored');
    assert.equal(cache.take('k0'), 'other!');
    assert.deepEqual(cache.getMany(['k3', 'absent']), [42, undefined]);
    await cache.close();
  },

  async time() {
    const cache = new Cache({ maxMemory: '16mb' });
    cache.set('short', 'lived', { ttl: 30 });
    assert.ok(cache.getRemainingTTL('short') <= 30);
    while (cache.has('short')) await sleep(5);
    assert.equal(cache.get('short'), undefined);
    await cache.close();
  },

  async eviction() {
    const cache = new Cache({ maxMemory: '4mb', shards: 1 });
    for (let n = 0; n < 100_000; n++) cache.set(`key ${n}`, `value ${n}`.padEnd(100));
    assert.ok(cache.size > 10_000 && cache.size < 40_000, `${cache.size} entries`);
    assert.equal(cache.get('key 0'), undefined);
    assert.equal(cache.get('key 99999').trim(), 'value 99999');
    cache.clear();
    assert.equal(cache.size, 0);
    await cache.close();
  },

  async threads() {
    const cache = new Cache({ name: 'tour', maxMemory: '16mb' });
    const workers = [1, 2, 3].map(() => new Worker(self, { workerData: { args: given } }));
    await Promise.all(
      workers.map(async (worker) => {
        const [code] = await once(worker, 'exit');
        assert.equal(code, 0);
      }),
    );
    assert.equal(cache.get('sum'), 30_000);
    let loads = 0;
    const load = async () => {
      loads++;
      await sleep(20);
      return 'loaded';
    };
    const all = await Promise.all(Array.from({ length: 10 }, () => cache.fetch('once', load)));
    assert.deepEqual([loads, new Set(all)], [1, new Set(['loaded'])]);
    await cache.close();
  },

  // Workers alone load the addon, so that Node lets go of it with each of them, while its own thread goes on.
  async unloading() {
    const [code] = await once(start(['--host']), 'exit');
    assert.equal(code, 0);
  },

  async promises() {
    const cache = new Cache({ maxMemory: '16mb' });
    await Promise.all(Array.from({ length: 2000 }, (_, n) => cache.promises.set(`k${n}`, n)));
    const answers = await cache.promises.getMany(Array.from({ length: 2000 }, (_, n) => `k${n}`));
    assert.deepEqual(
      answers,
      Array.from({ length: 2000 }, (_, n) => n),
    );
    await cache.close();
  },

  async port() {
    const cache = new Cache({ maxMemory: '16mb' });
    const server = await serve(cache, { port: 0 });
    const socket = connect(server.addresses[0].port, '127.0.0.1');
    let answer = '';
    socket.setEncoding('latin1').on('data', (text) => {
      answer += text;
    });
    socket.write('set a 0 0 1\r\n1\r\nincr a 41\r\nget a\r\nquit\r\n');
    await once(socket, 'close');
    assert.equal(answer, 'STORED\r\n42\r\nVALUE a 0 2\r\n42\r\nEND\r\n');
    assert.equal(cache.get('a').toString(), '42');
    await server.close();
    await cache.close();
  },

  // A process is killed in the middle of its writes; all that it was told is kept is there afterwards.
  async kill() {
    // In a path that is longer than what Windows takes without more ado.
    const data = join(folder, 'long'.repeat(30), 'path'.repeat(30), 'killed');
    const child = start(['--writer', data]);
    let told = -1;
    let rest = '';
    for await (const text of child.stdout.setEncoding('utf8')) {
      const lines = (rest + text).split('\n');
      rest = lines.pop();
      if (lines.length > 0) told = Number(lines.at(-1));
      if (told >= 500) child.kill('SIGKILL');
    }
    assert.ok(told >= 500, `the writer ended at ${told}`);
    const cache = await Cache.open({ data, maxMemory: '16mb' });
    for (let n = 0; n <= told; n++) assert.equal(cache.get(`k${n}`), n);
    const second = start(['--locked', data]);
    const [code] = await once(second, 'exit');
    assert.equal(code, 0, 'a second process was let in');
    await cache.close();
  },
};

function start(args) {
  const [program, ...first] = JSON.parse(runner);
  return spawn(program, [...first, self, index, folder, runner, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
}

async function runWriter(data) {
  const cache = await Cache.open({ data, maxMemory: '16mb' });
  for (let n = 0; ; n++) {
    await cache.promises.set(`k${n}`, n);
    process.stdout.write(`${n}\n`);
  }
}

async function runSecond(data) {
  await assert.rejects(Cache.open({ data, maxMemory: '16mb' }), { code: 'ERR_LOG_LOCKED' });
}

async function runHost() {
  for (let n = 0; n < 3; n++) {
    const worker = new Worker(self, { workerData: { args: given, isAlone: true } });
    const [code] = await once(worker, 'exit');
    assert.equal(code, 0);
  }
}

if (!isMainThread && workerData.isAlone) {
  const cache = new Cache({ maxMemory: '16mb' });
  cache.set('key', 'value', { ttl: '1h' });
  assert.equal(cache.get('key'), 'value');
} else if (!isMainThread) {
  const cache = Cache.attach('tour');
  for (let n = 0; n < 10_000; n++) cache.incr('sum', 1, { initial: 1 });
} else if (isHost) {
  await runHost();
} else if (given[3] === '--writer') {
  await runWriter(given[4]);
} else if (given[3] === '--locked') {
  await runSecond(given[4]);
} else {
  mkdirSync(folder, { recursive: true });
  for (const [name, part] of Object.entries(parts)) {
    await part();
    console.log(`${name}: as it should be`);
  }
  console.log(`The tour is over: Node ${process.versions.node} on ${process.platform} ${process.arch}`);
}
