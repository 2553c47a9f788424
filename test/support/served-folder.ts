// For tests of `cairn serve`: a folder for each test, and servers and clients that end with it.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import { MemcachedSocket } from './memcached-socket.ts';
import { type ServeProcess, startServe } from './serve-process.ts';

/** For one file of tests: `const folder = new ServedFolder('name')`. */
export class ServedFolder {
  #path = '';
  readonly #cleanUps: (() => unknown)[] = [];

  constructor(name: string) {
    beforeEach(() => {
      this.#path = mkdtempSync(join(tmpdir(), `cairn-${name}-`));
    });
    afterEach(async () => {
      for (const cleanUp of this.#cleanUps.splice(0).reverse()) await cleanUp();
      rmSync(this.#path, { recursive: true, force: true });
    });
  }

  /** Of the test at hand. */
  get path(): string {
    return this.#path;
  }

  /** Called behind the test, the last first. */
  atEnd(cleanUp: () => unknown): void {
    this.#cleanUps.push(cleanUp);
  }

  async serve(options: readonly string[], env?: NodeJS.ProcessEnv): Promise<ServeProcess> {
    const server = await startServe(options, env);
    this.atEnd(() => server.stop());
    return server;
  }

  async open({ port }: { readonly port: number }): Promise<MemcachedSocket> {
    const client = await MemcachedSocket.open(port);
    this.atEnd(() => client.destroy());
    return client;
  }
}
