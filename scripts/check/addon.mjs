// The TypeScript tests that work the addon, under AddressSanitizer and UndefinedBehaviorSanitizer: what the native
// tests do not reach is the border, where JavaScript values become bytes. Leaks are left to the native tests; Node has
// its own.

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { buildAddon, checkCompiler, nativeRoot } from '../../native/build.mjs';
import { asanEnvironment } from '../lib/native-run.mjs';
import { bin } from '../lib/project.mjs';

const folders = ['test/api', 'test/protocol', 'test/router', 'test/scribe', 'test/server'];

/** Runs memcached itself, without the addon. */
const without = 'test/protocol/memcached.test.ts';

export const title = 'addon under ASan and UBSan';

export function check() {
  if (process.platform !== 'linux') return 'a sanitized addon is run on Linux only';
  const library = execFileSync(checkCompiler(), ['-print-file-name=libasan.so'], { encoding: 'utf8' }).trim();
  if (!library.startsWith('/')) return 'the compiler brings no libasan.so to preload (GCC does)';
  const addon = buildAddon({
    out: join(nativeRoot, 'build-asan-addon'),
    args: ['-B', 'RelWithDebInfo', '--CDSANITIZE=address,undefined', '--CDPRECOMPILE=ON'],
  });
  const env = { ...process.env, ...asanEnvironment, CAIRN_NATIVE_PATH: addon, LD_PRELOAD: library };
  env.ASAN_OPTIONS += ':detect_leaks=0';
  bin('vitest', 'vitest.mjs', ['run', ...folders, '--exclude', without], { env });
  return undefined;
}
