import type { JetStreamClient, JetStreamManager } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/transport-node';

export interface NatsClient {
  readonly connection: NatsConnection;
  readonly stream: JetStreamClient;
  readonly manager: JetStreamManager;
  close(): Promise<void>;
}

export function connectTo(addresses: string | readonly string[]): Promise<NatsClient>;
export function makeStream(
  client: NatsClient,
  name: string,
  options?: { readonly replicas?: number; readonly maxBytes?: number },
): Promise<void>;
export function reaches(client: NatsClient, name: string): Promise<void>;
