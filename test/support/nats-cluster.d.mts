export interface NatsClusterOptions {
  readonly program: string;
  readonly parent?: string;
  readonly count?: number;
  readonly sync?: string | undefined;
  readonly processors?: number;
  readonly memoryMiB?: number;
  readonly storeMiB?: number;
}

export class NatsServer {
  readonly name: string;
  readonly folder: string;
  sync: string | undefined;
  program: string;
  readonly address: string;
  readonly monitorUrl: string;
  readonly pid: number | undefined;
  readonly isRunning: boolean;
  readonly isActive: boolean;
  run(): void;
  isReady(): Promise<void>;
  ask(path: string): Promise<Record<string, unknown>>;
  kill(): Promise<void>;
  stop(): Promise<void>;
  pause(): Promise<void>;
  resume(): void;
}

export class NatsCluster {
  readonly servers: readonly NatsServer[];
  readonly folder: string;
  readonly addresses: readonly string[];
  static start(options: NatsClusterOptions): Promise<NatsCluster>;
  isReady(): Promise<void>;
  leaderOf(stream: string): Promise<NatsServer>;
  end(): Promise<void>;
}
