// The same replies however the bytes arrive. Every recorded case is played against sessions without sockets: as it is,
// then byte by byte, then once for every place where one of its sends can be cut in two. The bytes before the cut send
// are fed whole; replies are matched with the recording, so that cas numbers and versions may differ from run to run.
//
// Left out: what depends on time, on the process or on when bytes come. That is cases that wait, statistics,
// datagrams, cases with a server of their own, and cuts inside a line of more than 2,048 bytes, which closes the
// connection when it is cut and does not when it comes whole; so it is in memcached.

import { rmSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cache, type MemcachedServer, type ServeOptions, serve } from '../../src/index.ts';
import { FLAG_OVERFLOW, FLAGS_RANGE, NEXT_MASK, Next, sessions } from '../../src/server/native-session.ts';
import { flagsOf, transcripts } from './transcript-files.ts';
import { type Case, expand, matchTemplate, type Step, show } from './transcripts/play.mjs';

/** Sends with more places to cut are cut in this many of them only. */
const CUTS_MAX = 300;
const BYTE_BY_BYTE_MAX = 5000;

let cache: Cache;
let service = 0;
const servers = new Map<string, { service: number; server: MemcachedServer }>();

// The service of a real server, driven without its sockets: what it is started with is seen on the way.
async function startServer(name: string, login: ServeOptions): Promise<void> {
  const { startService } = sessions;
  let started: number | undefined;
  sessions.startService = (handle, options) => {
    started = startService(handle, options);
    return started;
  };
  const server = await serve(cache, { port: 0, host: '127.0.0.1', front: 'node', ...login });
  sessions.startService = startService;
  servers.set(name, { service: started!, server });
}

beforeAll(async () => {
  cache = new Cache({ maxMemory: '64mb' });
  await startServer('', {});
  for (const { name, transcript } of transcripts) {
    if (transcript.files === undefined) continue;
    const { flags, folder } = flagsOf(transcript);
    await startServer(name, { [flags.includes('-Y') ? 'authFile' : 'saslFile']: flags.at(-1) });
    rmSync(folder!, { recursive: true });
  }
});

afterAll(async () => {
  for (const { server } of servers.values()) await server.close();
  cache.close();
});

/** A client without a socket. */
class Client {
  readonly session: number = sessions.openSession(service, 'test', 'test');
  closed = false;

  feed(bytes: string): string {
    let replies = '';
    let result = sessions.feedSession(this.session, Buffer.from(bytes, 'latin1'), 0);
    for (;;) {
      const flags = result % FLAGS_RANGE;
      const count = (result - flags) / FLAGS_RANGE;
      const buffer = (flags & FLAG_OVERFLOW) !== 0 ? sessions.takeOutput()! : sessions.output!.subarray(0, count);
      replies += buffer.toString('latin1');
      const next = flags & NEXT_MASK;
      if (next === Next.close) this.closed = true;
      if (next !== Next.flush && next !== Next.yield) return replies;
      result = sessions.continueSession(this.session, 0);
    }
  }
}

type Feed = (client: Client, bytes: string) => string;

const whole: Feed = (client, bytes) => client.feed(bytes);
const byteByByte: Feed = (client, bytes) => {
  let replies = '';
  for (let i = 0; i < bytes.length && !client.closed; i++) replies += client.feed(bytes[i]!);
  return replies;
};
const cutAt =
  (place: number): Feed =>
  (client, bytes) => {
    const first = client.feed(bytes.slice(0, place));
    return client.closed ? first : first + client.feed(bytes.slice(place));
  };

/** Plays a case up to a step and says what was wrong; that step is fed in its own way. */
function play(testCase: Case, last: number, feedLast: Feed, feedOthers: Feed): string | undefined {
  const first = new Client();
  const clients = new Map<number, Client>();
  // Also ends a delayed flush of the case before. A client that has to log in flushes nothing.
  first.feed('flush_all\r\n');
  cache.clear();
  let names = new Map<string, bigint>();
  try {
    for (const [index, step] of testCase.steps.slice(0, last + 1).entries()) {
      const number = step.conn ?? 1;
      const client = clients.get(number) ?? new Client();
      clients.set(number, client);
      const bytes = bytesOf(step, names);
      const got = (index === last ? feedLast : feedOthers)(client, bytes);
      const expected = step.expectHex ?? step.expect ?? '';
      const accepted = [expected, ...[step.orExpect ?? []].flat()];
      const isHex = step.expectHex !== undefined;
      const match = accepted.map((template) => matchTemplate(template, got, names, isHex)).find(({ ok }) => ok);
      if (match === undefined)
        return `step ${index + 1}: sent ${show(bytes)} expected ${show(expected)} got ${show(got)}`;
      names = match.names;
      if (client.closed !== (step.closes ?? false)) return `step ${index + 1}: closed is ${client.closed}`;
    }
  } finally {
    for (const client of [first, ...clients.values()]) sessions.closeSession(client.session);
  }
  return undefined;
}

const bytesOf = (step: Step, names: Map<string, bigint>): string =>
  expand([step.sendHex ?? step.send ?? ''].flat().join(''), names, step.sendHex !== undefined);
const hasLongLine = (bytes: string): boolean =>
  bytes.length > 2048 && bytes.split('\n').some((line) => line.length > 2040 && !/^gets? /.test(line));

const isSteady = (testCase: Case): boolean =>
  testCase.start === undefined &&
  testCase.transport !== 'udp' &&
  testCase.steps.every((step) => step.wait === undefined && step.expectStats === undefined);

for (const { name, transcript } of transcripts) {
  const cases = transcript.cases.filter(isSteady);
  if (cases.length === 0) continue;
  describe(name, () => {
    beforeAll(() => {
      service = (servers.get(name) ?? servers.get(''))!.service;
    });

    for (const testCase of cases) {
      const sends = testCase.steps.map((step) => bytesOf(step, new Map()));

      test(`${testCase.name}, without a socket`, () => {
        expect(play(testCase, testCase.steps.length - 1, whole, whole)).toBeUndefined();
      });

      // A packet is no line.
      const hasText = testCase.steps.some((step) => step.send !== undefined);
      if (hasText && sends.some(hasLongLine)) continue;

      test(`${testCase.name}, byte by byte`, () => {
        const feed: Feed = (client, bytes) => (bytes.length > BYTE_BY_BYTE_MAX ? whole : byteByByte)(client, bytes);
        expect(play(testCase, testCase.steps.length - 1, feed, feed)).toBeUndefined();
      });

      test(`${testCase.name}, cut in two everywhere`, () => {
        for (const [index, bytes] of sends.entries()) {
          const stride = Math.max(1, Math.floor(bytes.length / CUTS_MAX));
          // Large blocks take long to replay: a few cuts around their ends, where lines and blocks meet.
          const places =
            bytes.length > 50_000
              ? [1, 10, bytes.length - 3, bytes.length - 2, bytes.length - 1]
              : Array.from({ length: Math.ceil((bytes.length - 1) / stride) }, (_, i) => 1 + i * stride);
          for (const place of places) {
            if (place >= bytes.length) continue;
            const problem = play(testCase, index, cutAt(place), whole);
            expect(problem, `cut at ${place}`).toBeUndefined();
          }
        }
      });
    }
  });
}
