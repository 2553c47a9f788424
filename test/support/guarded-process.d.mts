export class GuardedProcess {
  readonly pid: number | undefined;
  readonly isRunning: boolean;
  constructor(command: readonly string[], options?: { readonly env?: NodeJS.ProcessEnv });
  signal(name: NodeJS.Signals): void;
  pause(): Promise<void>;
  resume(): void;
  end(signal?: NodeJS.Signals): Promise<void>;
}
