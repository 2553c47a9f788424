export interface ServerProcess {
  isUp<T>(ask: () => Promise<T>): Promise<T>;
  end(): Promise<void>;
}

/** The folder of PostgreSQL's programs. */
export const postgresPrograms: string | undefined;
export const POSTGRES_MISSING: string;
export const mariadbPrograms: { readonly server: string; readonly install: string } | undefined;
export const MARIADB_MISSING: string;

export class PostgresCluster {
  readonly folder: string;
  readonly user: string;
  readonly socket: string;
  constructor(folder: string, user: string);
  make(options?: { readonly password?: string; readonly options?: readonly string[] }): void;
  copy(primary: { readonly socketFolder: string; readonly password: string }): Promise<void>;
  run(signal: 'INT' | 'QUIT', settings?: Readonly<Record<string, string>>): ServerProcess;
}

export class MariadbData {
  readonly folder: string;
  readonly socket: string;
  constructor(folder: string);
  make(): void;
  run(options?: readonly string[]): ServerProcess;
}
