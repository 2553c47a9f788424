// What memcached 1.6.45 answers, asked of `cairn serve` over TCP: every recorded case is a test. Those of the binary
// protocol, with meta commands and of logins are one over each front, and over TLS. Much of the time of a case is spent
// in waiting for replies that must not come. So the files are played side by side, each against its own server, and the
// tests report what came of it.

import { createSocket } from 'node:dgram';
import { rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hasNativeFront } from '../../src/server/native-front.ts';
import { SERVER_TLS_FLAGS } from '../support/certificates.ts';
import { startServe } from '../support/serve-process.ts';
import { startTlsProxy } from '../support/tls-proxy.ts';
import { flagsOf, transcripts } from './transcript-files.ts';
import { playCase, show } from './transcripts/play.mjs';

// The `l` of mg, and `la` of dumps.
const ENV = { CAIRN_TRACK_ACCESS: 'true' };
const plays = transcripts.flatMap(({ name, transcript }) => {
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

const servers: { stop(): unknown }[] = [];
const folders: string[] = [];
const results = new Map<string, Promise<string[]>>();

beforeAll(async () => {
  await Promise.all(
    plays.map(async ({ name, transcript, flags, isTls }) => {
      const start = async (options: readonly string[] = []): Promise<{ port: number }> => {
        const server = await startServe([...options, ...flags], ENV);
        servers.push(server);
        if (!isTls) return server;
        const proxy = await startTlsProxy(server.port);
        servers.push(proxy);
        return proxy;
      };
      const { flags: own, folder } = flagsOf(transcript);
      if (folder !== undefined) folders.push(folder);
      const server = await start(await withPort(own));
      let previous: Promise<unknown> = Promise.resolve();
      for (const testCase of transcript.cases) {
        const result = previous.then(async () => {
          const problems: string[] = [];
          let steps = 0;
          const own = testCase.start === undefined ? server : await start(testCase.start);
          await playCase('127.0.0.1', own.port, transcript, testCase, undefined, (number, step, problem) => {
            steps++;
            if (problem === null) return;
            const sent = [step.sendHex ?? step.send ?? ''].flat().join('');
            const { why, expected, got } = problem;
            problems.push(`step ${number}, ${why}: sent ${show(sent)} expected ${show(expected)} got ${show(got)}`);
          });
          if (steps < testCase.steps.length)
            problems.push(`only ${steps} of ${testCase.steps.length} steps were played`);
          return problems;
        });
        results.set(`${name} ${testCase.name}`, result);
        // A rejection is the test's to report.
        previous = result.catch(() => {});
      }
    }),
  );
});

afterAll(async () => {
  await Promise.all(servers.map((server) => server.stop()));
  for (const folder of folders) rmSync(folder, { recursive: true });
});

for (const { name, transcript } of plays) {
  describe(name, () => {
    for (const testCase of transcript.cases) {
      test(testCase.name, { timeout: 120_000 }, async () => {
        expect(await results.get(`${name} ${testCase.name}`)).toEqual([]);
      });
    }
  });
}
