// The prebuilt addon for Linux, and that it needs no newer C library than Node does.

import { findProgram } from '../lib/project.mjs';
import { prebuild } from '../prebuild.mjs';

export const title = 'prebuilt addon and its C library';

export function check() {
  if (process.platform !== 'linux') return 'the C library is looked at on Linux only';
  if (!findProgram('objdump')) return 'objdump is missing (apt-get install binutils)';
  if (!findProgram('xz')) return 'xz is missing (apt-get install xz-utils)';
  prebuild();
  return undefined;
}
