// What memcached 1.6.45 answers, asked of `cairn serve` over TCP: every recorded case is a test. Those of the binary
// protocol, with meta commands and of logins are one over each front, and over TLS. Much of the time of a case is spent
// in waiting for replies that must not come. So the files are played side by side, each against its own server, and the
// tests report what came of it. Not all at once: more servers than processors only wait for each other.

import { createSocket } from 'node:dgram';
import { rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { beforeAll, describe, expect, test } from 'vitest';
import { hasNativeFront } from '../../src/server/native-front.ts';
import { SERVER_TLS_FLAGS } from '../support/certificates.ts';
import { startServe } from '../support/serve-process.ts';
import { limited } from '../support/side-by-side.ts';
import { startTlsProxy } from '../support/tls-proxy.ts';
import { flagsOf, transcripts } from './transcript-files.ts';
import { type Case, playCase, show, type Transcript } from './transcripts/play.mjs';

// The `l` of mg, and `la` of dumps.
const ENV = { CAIRN_TRACK_ACCESS: 'true' };
/** A file, over a front and a transport. */
interface Play {
  name: string;
  transcript: Transcript;
  flags: readonly string[];
  isTls: boolean;
}

const plays: readonly Play[] = transcripts.flatMap(({ name, transcript }) => {
  if (!/^(auth|binary|meta|pipelines|start|text-admin)/.test(name))
    return [{ name, transcript, flags: [], isTls: false }];
  const fronts = hasNativeFront() ? ['native', 'node'] : ['node'];
  const plain = fronts.map((front) => ({
    ...{ name: `${name}, ${front} front`, transcript },
    ...{ flags: ['--front', front], isTls: false },
  }));
  if (/^(start|text)/.test(name)) return plain;
  return [...plain, { name: `${name}, TLS`, transcript, flags: SERVER_TLS_FLAGS, isTls: true }];
});

/** With a free port in the place of `{port}`: the one of both TCP and UDP. */
async function withPort(start: readonly string[] = []): Promise<readonly string[]> {
  if (!start.includes('{port}')) return start;
  const port = await freePort();
  return [...start.map((word) => word.replace('{port}', port)), '-p', port];
}

/** Free for TCP and UDP a moment ago. */
function freePort(): Promise<string> {
  return new Promise((resolve, reject) => {
    const probe = createServer().once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const { port } = probe.address() as AddressInfo;
      const datagrams = createSocket('udp4').once('error', reject);
      datagrams.bind(port, '127.0.0.1', () => {
        datagrams.close();
        probe.close(() => resolve(String(port)));
      });
    });
  });
}

const sideBySide = limited(16);

/** Of each case, what went wrong: known once its file has been played so far. */
const results = new Map<string, Promise<string[]>>();

beforeAll(() => {
  for (const play of plays) {
    const ready = sideBySide(() => playFile(play));
    for (const { name } of play.transcript.cases) {
      const result = ready.then((problems) => problems.get(name) ?? ['it was not played']);
      // A rejection is the test's to report.
      result.catch(() => {});
      results.set(`${play.name} ${name}`, result);
    }
  }
});

/** Plays all cases of a file against a server of theirs. Returns what went wrong in each. */
async function playFile({ transcript, flags, isTls }: Play): Promise<Map<string, string[]>> {
  const servers: { stop(): unknown }[] = [];
  const start = async (options: readonly string[] = []): Promise<{ port: number }> => {
    const server = await startServe([...options, ...flags], ENV);
    servers.push(server);
    if (!isTls) return server;
    const proxy = await startTlsProxy(server.port);
    servers.push(proxy);
    return proxy;
  };
  const { flags: own, folder } = flagsOf(transcript);
  const problems = new Map<string, string[]>();
  try {
    const server = await start(await withPort(own));
    for (const testCase of transcript.cases) {
      const { port } = testCase.start === undefined ? server : await start(testCase.start);
      problems.set(testCase.name, await problemsOf(testCase, transcript, port));
    }
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
    if (folder !== undefined) rmSync(folder, { recursive: true });
  }
  return problems;
}

async function problemsOf(testCase: Case, transcript: Transcript, port: number): Promise<string[]> {
  const problems: string[] = [];
  let steps = 0;
  try {
    await playCase('127.0.0.1', port, transcript, testCase, undefined, (number, step, problem) => {
      steps++;
      if (problem === null) return;
      const sent = [step.sendHex ?? step.send ?? ''].flat().join('');
      const { why, expected, got } = problem;
      problems.push(`step ${number}, ${why}: sent ${show(sent)} expected ${show(expected)} got ${show(got)}`);
    });
  } catch (error) {
    problems.push(String(error));
  }
  if (steps < testCase.steps.length) problems.push(`only ${steps} of ${testCase.steps.length} steps were played`);
  return problems;
}

for (const { name, transcript } of plays) {
  describe(name, () => {
    for (const testCase of transcript.cases) {
      // The first that is asked for waits for its whole file, and for those before it.
      test(testCase.name, { timeout: 900_000 }, async () => {
        expect(await results.get(`${name} ${testCase.name}`)).toEqual([]);
      });
    }
  });
}
