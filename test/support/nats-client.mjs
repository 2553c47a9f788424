// Clients of a cluster of nats-servers, for tests and benches.

import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';

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

/** Makes a stream with one subject of the same name. Its servers set `maxBytes` aside at once. */
export async function makeStream({ manager }, name, { replicas = 3, maxBytes = 32 * 2 ** 20 } = {}) {
  await manager.streams.add({
    name,
    subjects: [name],
    num_replicas: replicas,
    storage: 'file',
    retention: 'limits',
    discard: 'new',
    max_bytes: maxBytes,
    deny_delete: true,
  });
}
