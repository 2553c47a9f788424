// Atomic batches and kill -9: a program gives some keys one number after the other, each in an atomic batch, and is
// killed. All keys have one number then: in the rows, as the process has left them, and in the cache, when it is opened
// again. It is the last acknowledged number, or a later one. `odd` is set by a batch with an odd number, and deleted by
// others. CAIRN_TEST_FACTOR=100 makes it a long one.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { DataDirectories } from '../support/data-directories.ts';
import { LMDB_MODULE, LmdbDirectory } from '../support/lmdb.ts';
import { Random } from '../support/random.ts';

const LIVES: number = 8 * Number(process.env['CAIRN_TEST_FACTOR'] ?? 1);
const KEYS = 24;
const library = new URL('../../dist/index.js', import.meta.url).href;
const directories = new DataDirectories('fire-atomic');

/** The program: says what it finds, and each number when it is acknowledged. `writes` false: says it, and ends. */
const program = `
  import { Cache } from ${JSON.stringify(library)};
  const [data, store, writes] = process.argv.slice(1);
  const cache = await Cache.open({
    data, store, shards: 8, maxMemory: '32mb', sync: '20ms', logLimit: '64mb', segmentSize: '1mb',
    writeBack: { delay: 1, maxRows: 5 },
  });
  const keys = Array.from({ length: ${KEYS} }, (_, i) => 'key' + i);
  const found = await cache.promises.getMany([...keys, 'odd']);
  console.log(JSON.stringify(found.map((value) => value ?? null)));
  let number = found[0] ?? 0;
  const parts = (batch) => {
    number++;
    // Each batch has its own order, and some have a part twice.
    for (let i = 0; i < keys.length; i++) {
      const key = keys[(i * 7 + number) % keys.length];
      if (number % 3 === 0) batch.delete(key);
      batch.set(key, number);
    }
    return number % 2 === 1 ? batch.set('odd', number) : batch.delete('odd');
  };
  while (writes === 'true') {
    // Those that are not awaited have no answer, and may be lost.
    for (let i = number % 4; i > 0; i--) {
      try {
        parts(cache.batch()).commit();
      } catch (error) {
        if (error.code !== 'ERR_LOG_FULL') throw error;
        number--;
        await cache.sync();
      }
    }
    const written = parts(cache.promises.batch());
    await written.commit({ ack: 'logged' });
    console.log(number);
  }
  await cache.drain();
  await cache.close();
`;

class Life {
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  #errors = '';

  constructor(data: string, writes: boolean) {
    const args = ['--input-type=module', '--eval', program, data, LMDB_MODULE, String(writes)];
    this.#process = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#process.stderr!.on('data', (text) => {
      this.#errors += text;
    });
    this.#lines = createInterface({ input: this.#process.stdout! })[Symbol.asyncIterator]();
  }

  /** The next line; undefined: there is no other. */
  async next(): Promise<unknown> {
    const { value, done } = await this.#lines.next();
    return done === true ? undefined : JSON.parse(value);
  }

  kill(): void {
    this.#process.kill('SIGKILL');
  }

  async exit(): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) await once(this.#process, 'exit');
    expect(this.#errors).toBe('');
  }
}

/** The number that all keys have; 0: there is none. Undefined: they have several. */
function numberOf(values: readonly unknown[], odd: unknown): number | undefined {
  const numbers = new Set(values.map((value) => Number(value ?? 0)));
  const [number] = numbers;
  if (numbers.size !== 1 || Number(odd ?? 0) !== (number! % 2 === 1 ? number : 0)) return undefined;
  return number;
}

interface Verdict {
  readonly halves: number;
  readonly lost: number;
  readonly acknowledged: number;
}

async function campaign(seed: number): Promise<Verdict> {
  const random = new Random(seed);
  const database = new LmdbDirectory().make();
  const data = directories.fresh();
  let [halves, lost, acknowledged, last] = [0, 0, 0, 0];
  const judge = (number: number | undefined, least: number): void => {
    if (number === undefined) halves++;
    else if (number < least) lost++;
  };
  const rowsNow = async (): Promise<number | undefined> => {
    const { rows } = await database.read();
    return numberOf(
      Array.from({ length: KEYS }, (_, i) => rows[`key${i}`]),
      rows['odd'],
    );
  };
  try {
    for (let life = 0; life <= LIVES; life++) {
      const isLast = life === LIVES;
      const run = new Life(data, !isLast);
      const found = (await run.next()) as unknown[] | undefined;
      if (found === undefined) {
        await run.exit();
        throw new Error('The program has said nothing');
      }
      judge(numberOf(found.slice(0, KEYS), found[KEYS]), last);
      // The first ones come while the writer catches up.
      for (let left = isLast ? 0 : 10 + random.below(50); left >= 0; left--) {
        const number = (await run.next()) as number | undefined;
        if (number === undefined) break;
        last = number;
        acknowledged++;
      }
      if (!isLast) run.kill();
      for (let number = await run.next(); number !== undefined; number = await run.next()) last = number as number;
      await run.exit();
      judge(await rowsNow(), isLast ? last : 0);
    }
  } finally {
    database.remove();
  }
  return { halves, lost, acknowledged };
}

test('after kill -9 all keys of a batch have its number, in the rows and in the cache', {
  timeout: 240_000 * LIVES,
}, async () => {
  const { acknowledged, ...faults } = await campaign(1);
  expect(faults).toEqual({ halves: 0, lost: 0 });
  expect(acknowledged).toBeGreaterThan(LIVES * 10);
});

test('a database that leaves out changes is found', { timeout: 240_000 * LIVES }, async () => {
  process.env['CAIRN_TEST_LMDB_MISTAKE'] = 'forgets';
  try {
    expect((await campaign(2)).halves).toBeGreaterThan(0);
  } finally {
    delete process.env['CAIRN_TEST_LMDB_MISTAKE'];
  }
});
