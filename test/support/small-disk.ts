// A disk that is full soon: a file system in memory, which only root on Linux may mount.

import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { afterAll } from 'vitest';
import { type ConditionalTest, skipUnless } from './skip.ts';

export interface SmallDisk {
  /** Where it is mounted. */
  readonly path: string;
  /** For tests that need it. */
  readonly condition: ConditionalTest;
}

/** Makes the folder and mounts a disk of 8 MiB there, until the tests of the file are over. */
export function smallDisk(path: string): SmallDisk {
  let isMounted = false;
  try {
    mkdirSync(path);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', path], { stdio: 'ignore' });
    isMounted = true;
  } catch {
    // Not root, or not Linux: the tests say so.
  }
  afterAll(() => {
    // Lazily: a thread that has just ended may still have a file there.
    if (isMounted) execFileSync('umount', ['-l', path]);
  });
  return { path, condition: skipUnless(isMounted, 'needs a small tmpfs, which only root can mount', 'platform') };
}
