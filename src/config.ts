/** The configuration of `cairn serve`, as a file holds it. */
import type { CacheOptions, ServeOptions } from './options.ts';

/**
 * The options of `cairn serve --config FILE`: those of a cache and those of a server, together. Only a program can give
 * functions, so these are left out.
 */
export interface Config
  extends Omit<CacheOptions, 'clock' | 'loader' | 'onRecovery' | 'promises' | 'random' | 'raw'>,
    Omit<ServeOptions, 'ack'> {
  /** Allows `data` together with addresses beyond loopback: every client there can read and write all entries. */
  allowOpen?: boolean;
}

/**
 * Returns its argument: for the types, in a configuration file.
 *
 *     import { defineConfig } from 'cairn-cache';
 *     export default defineConfig({ maxMemory: '2gb', data: './data' });
 */
export function defineConfig(config: Config): Config {
  return config;
}
