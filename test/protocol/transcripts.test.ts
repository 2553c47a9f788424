// What memcached 1.6.45 answers, asked of `cairn serve` over TCP: every recorded case is a test. Those of the binary
// protocol and those with meta commands are one over each front. Much of the time of a case is spent in waiting for
// replies that must not come. So the files are played side by side, each against its own server, and the tests report
// what came of it.

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { hasNativeFront } from '../../src/server/native-front.ts';
import { type ServeProcess, startServe } from '../support/serve-process.ts';
import { transcripts } from './transcript-files.ts';
import { playCase, show } from './transcripts/play.mjs';

// The `l` of mg, and `la` of dumps.
const ENV = { CAIRN_TRACK_ACCESS: 'true' };
const plays = transcripts.flatMap(({ name, transcript }) =>
  /^(binary|meta|pipelines)/.test(name) && hasNativeFront()
    ? ['native', 'node'].map((front) => ({ name: `${name}, ${front} front`, transcript, flags: ['--front', front] }))
    : [{ name, transcript, flags: [] }],
);

const servers: ServeProcess[] = [];
const results = new Map<string, Promise<string[]>>();

beforeAll(async () => {
  await Promise.all(
    plays.map(async ({ name, transcript, flags }) => {
      const server = await startServe([...(transcript.start ?? []), ...flags], ENV);
      servers.push(server);
      let previous: Promise<unknown> = Promise.resolve();
      for (const testCase of transcript.cases) {
        const result = previous.then(async () => {
          const problems: string[] = [];
          let steps = 0;
          const { start } = testCase;
          const own = start === undefined ? server : await startServe([...start, ...flags], ENV);
          if (own !== server) servers.push(own);
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
