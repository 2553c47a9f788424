// A process under fire: `cairn serve`, or a program that uses the API (actor.ts).

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { ServerProcess } from '../../../src/torture/server-process.ts';
import type { ActorOptions } from './actor.ts';

export { PATIENCE_MS } from '../../../src/torture/server-process.ts';

/** The project's folder: this file may run from where it was compiled to. */
export const projectRoot: string = (() => {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package-lock.json'))) folder = dirname(folder);
  return folder;
})();

export const libraryUrl: string = pathToFileURL(join(projectRoot, 'dist/index.js')).href;
export const cliFile: string = join(projectRoot, 'dist/cli/main.js');
/** What campaigns of write-back start. */
export const tortureServer: string = join(projectRoot, 'dist/cli/torture-server.js');

/** What a process meets beside its options. */
export interface Surroundings {
  /** The processors that it may use, as taskset takes them. */
  readonly cores?: string | undefined;
  readonly environment?: Record<string, string> | undefined;
}

export class Target extends ServerProcess {
  private constructor(args: readonly string[], { cores, environment }: Surroundings, portPattern?: RegExp) {
    const [command, ...before] = cores === undefined ? [process.execPath] : ['taskset', '-c', cores, process.execPath];
    super({
      command: command!,
      args: [...before, ...args],
      environment,
      portPattern,
    });
  }

  /** `cairn serve` with these options. */
  static serve(options: readonly string[], surroundings: Surroundings = {}): Target {
    return new Target([cliFile, 'serve', '-l', '127.0.0.1', '-p', '-1', ...options], surroundings);
  }

  static act(options: ActorOptions, surroundings: Surroundings = {}): Target {
    const file = fileURLToPath(new URL('./actor.js', import.meta.url));
    return new Target([file, JSON.stringify(options)], surroundings, /^ready (\d+)/m);
  }
}
