// How long appends stop when the leader of their stream is killed. A client appends at the end that it knows, through a
// server that stays, and repeats an append until it learns its outcome. At the end the stream is compared with what was
// acknowledged.

import { connectTo, makeStream } from '../../test/support/nats-client.mjs';
import { summary } from '../lib/statistics.mjs';
import { number, printTable } from '../lib/table.mjs';

const STREAM = 'bench-kills';
/** The gap is measured to this: an attempt that meets a dead leader is never answered. */
const ATTEMPT_MS = 100;
/** Appends that are seen before and after a death. */
const STEADY = 200;
const PATIENCE_MS = 60_000;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Appends one text behind the first `last` messages, however often that takes. */
async function appendAt({ stream, manager }, text, last) {
  const giveUp = performance.now() + PATIENCE_MS;
  while (performance.now() < giveUp) {
    try {
      await stream.publish(STREAM, text, { expect: { lastSequence: last }, timeout: ATTEMPT_MS });
      return;
    } catch (error) {
      if (/wrong last sequence/.test(error.message)) {
        // The answer to an earlier attempt was lost, or another message is there.
        const found = await manager.streams.getMessage(STREAM, { seq: last + 1 });
        if (found?.string() === text) return;
        throw new Error(`Expected message ${last + 1} to be "${text}", got "${found?.string()}"`);
      }
      await sleep(5);
    }
  }
  throw new Error(`Expected an append within ${PATIENCE_MS / 1000} s after the death of a leader`);
}

async function killOnce(cluster, appended) {
  const leader = await cluster.leaderOf(STREAM);
  const follower = cluster.servers.find((server) => server !== leader);
  const client = await connectTo(follower.address);
  let longestMs = 0;
  let usual = 0;
  const append = async () => {
    const begin = performance.now();
    await appendAt(client, `message ${appended.count}`, appended.count);
    appended.count++;
    return performance.now() - begin;
  };
  try {
    for (let i = 0; i < STEADY; i++) usual = Math.max(usual, await append());
    const killed = leader.kill();
    for (let i = 0; i < STEADY; i++) longestMs = Math.max(longestMs, await append());
    await killed;
  } finally {
    await client.close();
  }
  leader.run();
  await cluster.isReady();
  return { stoppedMs: longestMs, usualMs: usual };
}

export async function measureKills(cluster, { kills }) {
  const client = await connectTo(cluster.addresses);
  try {
    await makeStream(client, STREAM, {});
    const appended = { count: 0 };
    const samples = [];
    for (let i = 0; i < kills; i++) samples.push(await killOnce(cluster, appended));
    const { state } = await client.manager.streams.info(STREAM);
    const stopped = summary(samples.map(({ stoppedMs }) => stoppedMs / 1000));
    const usual = summary(samples.map(({ usualMs }) => usualMs));
    console.log('== kill -9 of the leader: how long an append takes that meets it');
    console.log('  the longest before: of the appends before each death\n');
    printTable(
      ['deaths', 'median, s', 'least, s', 'greatest, s', 'longest before, ms', 'acknowledged', 'in the stream'],
      [
        [
          String(kills),
          ...[stopped.median, stopped.min, stopped.max, usual.max].map(number),
          String(appended.count),
          String(state.messages),
        ],
      ],
    );
    if (state.messages !== appended.count) throw new Error('Expected the stream to hold what was acknowledged');
    return samples;
  } finally {
    await client.manager.streams.delete(STREAM).catch(() => {});
    await client.close();
  }
}
