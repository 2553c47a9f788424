// Clients of a cluster of nats-servers, for tests and benches.

import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import { until } from './until.mjs';

/** Resolves to a connection to one of these servers, which goes on to the next one if that is gone. */
export async function connectTo(addresses) {
  const connection = await connect({
    servers: [addresses].flat(),
    // Servers that they tell of are not asked, because a bench measures the one that it names.
    ignoreClusterUpdates: true,
    maxReconnectAttempts: -1,
    reconnectTimeWait: 50,
    waitOnFirstConnect: true,
  });
  const manager = await jetstreamManager(connection, { checkAPI: false });
  return { connection, stream: jetstream(connection), manager, close: () => connection.close() };
}

/**
 * Makes a stream with one subject of the same name, and resolves when appends of this client reach it. Its servers set
 * `maxBytes` aside at once.
 */
export async function makeStream(client, name, { replicas = 3, maxBytes = 32 * 2 ** 20 } = {}) {
  await client.manager.streams.add({
    name,
    subjects: [name],
    num_replicas: replicas,
    storage: 'file',
    retention: 'limits',
    discard: 'new',
    max_bytes: maxBytes,
    deny_delete: true,
  });
  await reaches(client, name);
}

/** No stream is as long: an append behind it is refused by the stream's leader. */
const BEYOND_ANY_END = 2 ** 40;

/**
 * Resolves when appends of this client reach the stream: the servers that do not lead it learn of its subject a while
 * after it is made, and until then say that it has no listener.
 */
export async function reaches({ stream }, name) {
  const isRefused = async () => {
    try {
      await stream.publish(name, '', { expect: { lastSequence: BEYOND_ANY_END }, timeout: 1000 });
    } catch (error) {
      if (/wrong last sequence/.test(error.message)) return true;
      throw error;
    }
  };
  await until(isRefused, `appends to reach the stream ${name}`);
}
