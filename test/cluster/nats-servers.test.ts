// What Cairn's cluster takes for granted of the engine that it stands on, shown with three real servers: an
// acknowledged message survives the death of any one of them, appends are conditional on the end of the stream, and a
// server that was away catches up. The suite is also the test of test/support/nats-cluster.mjs.

import { spawn } from 'node:child_process';
import { existsSync, rmSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { natsServerProgram as program, withNats } from '../support/nats.ts';
import { connectTo, makeStream, type NatsClient, reaches } from '../support/nats-client.mjs';
import { NatsCluster } from '../support/nats-cluster.mjs';

const PATIENCE = { timeout: 60_000, interval: 20 };

withNats.describe('three nats-servers', () => {
  let cluster: NatsCluster;
  let client: NatsClient;

  beforeAll(async () => {
    cluster = await NatsCluster.start({ program });
    client = await connectTo(cluster.addresses);
  });
  afterAll(async () => {
    await client?.close();
    await cluster?.end();
  });

  const append = async (stream: string, text: string, lastSequence: number): Promise<number> =>
    (await client.stream.publish(stream, text, { expect: { lastSequence }, timeout: 2000 })).seq;

  /** Appends again until an attempt is answered; the answer to an earlier one may have been lost. */
  const appendAtLast = (stream: string, text: string, last: number): Promise<number> =>
    vi.waitUntil(async () => {
      try {
        return (await client.stream.publish(stream, text, { expect: { lastSequence: last }, timeout: 200 })).seq;
      } catch (error) {
        return /wrong last sequence/.test(String(error)) ? last + 1 : undefined;
      }
    }, PATIENCE);

  const textsOf = async (stream: string): Promise<string[]> => {
    const { state } = await client.manager.streams.info(stream);
    const texts: string[] = [];
    for (let seq = state.first_seq; seq <= state.last_seq; seq++) {
      texts.push((await client.manager.streams.getMessage(stream, { seq }))!.string());
    }
    return texts;
  };

  test('sync every write, as they say themselves', async () => {
    for (const server of cluster.servers) {
      const { version, jetstream } = await server.ask('/varz');
      expect(jetstream).toMatchObject({ config: { sync_always: true } });
      expect(version).toMatch(/^2\.(1[5-9]|[2-9]\d)\.|^[3-9]\./);
    }
  });

  test('append at the predicted end many messages that are in flight together', async () => {
    await makeStream(client, 'pipelined');
    const places = await Promise.all(Array.from({ length: 64 }, (_, i) => append('pipelined', `${i}`, i)));
    expect(places).toEqual(Array.from({ length: 64 }, (_, i) => i + 1));
    expect(await textsOf('pipelined')).toEqual(Array.from({ length: 64 }, (_, i) => `${i}`));
  });

  test('refuse an append at another place, and with it all that are predicted behind it', async () => {
    await makeStream(client, 'refused');
    await append('refused', 'first', 0);
    const late = await Promise.allSettled([0, 2, 3].map((last) => append('refused', 'late', last)));
    expect(late.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
    for (const { reason } of late as PromiseRejectedResult[]) {
      expect(String(reason)).toMatch(/wrong last sequence: 1/);
    }
    expect(await append('refused', 'second', 1)).toBe(2);
    expect(await textsOf('refused')).toEqual(['first', 'second']);
  });

  test('of two writers at the same place, one wins', async () => {
    await makeStream(client, 'raced');
    const other = await connectTo(cluster.addresses);
    try {
      await reaches(other, 'raced');
      for (let last = 0; last < 20; last++) {
        const publish = ({ stream }: NatsClient, text: string): Promise<unknown> =>
          stream.publish('raced', text, { expect: { lastSequence: last } });
        const outcomes = await Promise.allSettled([publish(client, 'one'), publish(other, 'other')]);
        expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
      }
    } finally {
      await other.close();
    }
  });

  test('keep each acknowledged message when the leader is killed, and go on; it catches up when it is back', async () => {
    await makeStream(client, 'killed');
    for (let i = 0; i < 10; i++) await append('killed', `${i}`, i);
    const leader = await cluster.leaderOf('killed');
    await leader.kill();
    expect(leader.isRunning).toBe(false);
    expect(await appendAtLast('killed', '10', 10)).toBe(11);
    expect(await cluster.leaderOf('killed')).not.toBe(leader);
    leader.run();
    await cluster.isReady();
    expect(await textsOf('killed')).toEqual(Array.from({ length: 11 }, (_, i) => `${i}`));
    await vi.waitUntil(async () => {
      const { cluster: members } = await client.manager.streams.info('killed');
      return members?.replicas?.length === 2 && members.replicas.every(({ current }: { current: boolean }) => current);
    }, PATIENCE);
  });

  test('go on while one of them is paused, which follows when it is resumed', async () => {
    await makeStream(client, 'paused');
    await append('paused', '0', 0);
    const leader = await cluster.leaderOf('paused');
    const paused = cluster.servers.find((server) => server !== leader)!;
    // A server that is paused keeps its connections.
    const direct = await connectTo(leader.address);
    await reaches(direct, 'paused');
    await paused.pause();
    try {
      for (let last = 1; last < 10; last++) {
        await direct.stream.publish('paused', `${last}`, { expect: { lastSequence: last } });
      }
      await expect(paused.ask('/varz')).rejects.toThrow('timeout');
    } finally {
      paused.resume();
      await direct.close();
    }
    await cluster.isReady();
    const numbers = Array.from({ length: 10 }, (_, i) => `${i}`);
    expect(await textsOf('paused')).toEqual(numbers);
    await vi.waitUntil(async () => {
      const { account_details: accounts } = await paused.ask('/jsz?acc=$G&streams=true');
      const streams = (accounts as { stream_detail: { name: string; state: { messages: number } }[] }[])[0]!
        .stream_detail;
      return streams.find(({ name }) => name === 'paused')?.state.messages === 10;
    }, PATIENCE);
  });
});

withNats('a cluster ends with the process that started it, however that ends', async () => {
  const source = `
    import { NatsCluster } from ${JSON.stringify(new URL('../support/nats-cluster.mjs', import.meta.url).href)};
    const { folder, servers } = await NatsCluster.start({ program: ${JSON.stringify(program)} });
    await servers[0].pause();
    console.log(JSON.stringify({ folder, pids: servers.map(({ pid }) => pid) }));`;
  const starter = spawn(process.execPath, ['--input-type=module', '-e', source], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = await createInterface({ input: starter.stdout })
    [Symbol.asyncIterator]()
    .next()
    .then(({ value }) => [value]);
  const { folder, pids } = JSON.parse(line) as { folder: string; pids: number[] };
  expect(pids.map(isRunning)).toEqual([true, true, true]);
  starter.kill('SIGKILL');
  await vi.waitUntil(() => !pids.some(isRunning), PATIENCE);
  expect(existsSync(folder)).toBe(true);
  rmSync(folder, { recursive: true });
});

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
