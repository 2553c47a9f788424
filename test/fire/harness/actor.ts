// A program under fire: it opens a cache through the API, serves it, and writes and reads it by promised and
// synchronous verbs, in its own thread and in others, until it is killed or told to end. Each thread writes its
// history to a file.
//
//   node actor.js '{"library": "file:///.../dist/index.js", "open": {...}, ...}'
//
// It prints `ready PORT` and begins when a line comes in; then the line `stop` ends it gracefully, and `exit` by
// process.exit() with everything in flight.

import { openSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import type * as CacheModule from '../../../src/cache.ts';
import type * as Cairn from '../../../src/index.ts';
import type * as ScribeModule from '../../../src/scribe/index.ts';
import type { Answer, Question } from '../../support/history.ts';
import { Random } from '../../support/random.ts';
import { askManyNow, askManyPromised, askNow, askPromised, hasCode } from './api-doors.ts';
import { HistoryWriter } from './history-file.ts';
import { Workload, type WorkloadOptions } from './workload.ts';

type Cache = Cairn.Cache<unknown>;

export interface ActorOptions {
  /** Where the package is. */
  library: string;
  /** Of `Cache.open`. */
  open: Record<string, unknown>;
  /** Of `serve`. */
  serve: Record<string, unknown>;
  workload: WorkloadOptions;
  /** Sessions in each thread, and how many requests each has unanswered. */
  promised: number;
  synchronous: number;
  depth: number;
  /** Threads beside the first. */
  threads: number;
  seed: number;
  life: number;
  /** The first session's number. */
  session: number;
  /** Files are this, a dot and the thread's number. */
  history: string;
  /** Ask for a snapshot whenever the last one is done. */
  snapshots: boolean;
  /** End the thread that writes the log this long after the load has begun; another one takes over. */
  scribeEndsAfterMs: number | undefined;
}

const NAME = 'under-fire';

/** Loads a cache by all the sessions of one thread until the process ends. */
async function load(cache: Cache, options: ActorOptions, thread: number): Promise<void> {
  const { promised, synchronous, depth, seed, life, history, workload } = options;
  const writer = new HistoryWriter(openSync(`${history}.${thread}`, 'w', 0o600), life);
  const first = options.session + thread * (promised + synchronous);
  const sessions = Array.from({ length: promised + synchronous }, async (_, i) => {
    const session = first + i;
    const random = new Random(seed + session);
    const work = new Workload(random, `l${life}s${session}n`, workload);
    while (!isEnding) {
      const isMany = random.below(4) === 0;
      const count = 1 + random.below(depth);
      const asked = writer.ask(
        session,
        isMany ? work.many(count) : Array.from({ length: count }, () => wordable(work)),
      );
      const operations = asked.map(({ operation }) => operation);
      const tell = (answers: readonly (Answer | undefined)[]): void => {
        const told = answers.flatMap((answer, i) =>
          answer === undefined ? [] : [{ number: asked[i]!.number, answer }],
        );
        writer.answer(told);
        for (const [i, answer] of answers.entries()) {
          if (answer !== undefined) work.learn({ ...operations[i]!, answer });
        }
      };
      try {
        if (i >= promised) {
          const answers = isMany ? askManyNow(cache, operations) : operations.map((each) => askNow(cache, each));
          await cache.sync();
          tell(answers);
        } else if (isMany) tell(await askManyPromised(cache, operations));
        else
          await Promise.all(
            operations.map((each, j) => askPromised(cache, each).then((answer) => tell(at(j, answer)))),
          );
      } catch (error) {
        tolerate(error);
      }
      // Verbs return at once: others want their turn.
      await new Promise((resolve) => setImmediate(resolve));
    }
  });
  await Promise.all(sessions);
}

/** A list with one element, at its place. */
function at<T>(place: number, element: T): (T | undefined)[] {
  return [...Array.from<undefined>({ length: place }), element];
}

/** Something that the API has a verb for. */
function wordable(work: Workload): Question {
  const question = work.next();
  return question.verb === 'gat' ? { verb: 'get', key: question.key } : question;
}

let isEnding = false;

async function main(): Promise<void> {
  const options = JSON.parse(process.argv[2]!) as ActorOptions;
  const { Cache, serve } = (await import(options.library)) as typeof Cairn;
  const cache = (await Cache.open({ ...options.open, name: NAME, raw: 'string' } as object)) as Cache;
  const server = await serve(cache, { host: '127.0.0.1', port: 0, ...options.serve });
  const [address] = server.addresses;
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  console.log(`ready ${address !== undefined && 'port' in address ? address.port : 0}`);
  await lines.next();
  const threads = Array.from({ length: options.threads }, (_, i) => {
    return new Worker(new URL(import.meta.url), { workerData: { options, thread: i + 1 } });
  });
  for (const thread of threads) thread.once('error', fail);
  load(cache, options, 0).catch(fail);
  if (options.snapshots) takeSnapshots(cache).catch(fail);
  if (options.scribeEndsAfterMs !== undefined) await endScribe(cache, options.library, options.scribeEndsAfterMs);
  const { value } = await lines.next();
  isEnding = true;
  if (value === 'exit') process.exit(0);
  for (const thread of threads) thread.postMessage('stop');
  await server.close({ timeout: '1s' });
  await cache.close();
  // Threads that wait for something end with the process.
  process.exit(0);
}

// Through modules inside the package: its API has no way to do this.
async function endScribe(cache: Cache, library: string, afterMs: number): Promise<void> {
  const { handleOf } = (await import(library.replace('index.js', 'cache.js'))) as typeof CacheModule;
  const { LogKeeper } = (await import(library.replace('index.js', 'scribe/index.js'))) as typeof ScribeModule;
  const keeper = LogKeeper.of(handleOf(cache as Cairn.Cache<never>).cacheId);
  setTimeout(() => void keeper?.thread?.terminate(), afterMs);
}

async function takeSnapshots(cache: Cache): Promise<void> {
  while (!isEnding) {
    await cache.snapshot().catch(tolerate);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** If the log has no room or its disk fails, the outcome of a request is unknown. */
function tolerate(error: unknown): void {
  if (!isEnding && !hasCode(error, ['ERR_LOG_FULL', 'ERR_LOG_IO'])) throw error;
}

/** Ends the process with an error that the harness reports, unless the process is being ended anyway. */
function fail(error: unknown): void {
  if (isEnding) return;
  console.error(error);
  process.exit(3);
}

if (isMainThread) await main();
else {
  const { options, thread } = workerData as { options: ActorOptions; thread: number };
  const { Cache } = (await import(options.library)) as typeof Cairn;
  parentPort!.once('message', () => {
    isEnding = true;
  });
  await load(Cache.attach(NAME, { raw: 'string' }) as Cache, options, thread);
}
