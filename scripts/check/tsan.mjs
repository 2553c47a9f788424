// The native tests under ThreadSanitizer. Model runs, also those among the tests, and fuzz targets have one thread and
// are left out.

import { nativeTestParts, runSanitized } from '../lib/native-run.mjs';

export const title = 'native tests under TSan';

export async function check() {
  if (process.platform === 'win32') return 'sanitizers are run on Linux and macOS only';
  const env = { TSAN_OPTIONS: 'halt_on_error=1:second_deadlock_stack=1' };
  const programs = nativeTestParts.map((part) => ['native_tests', part, '--without=StoreModel.']);
  await runSanitized('build-tsan', 'thread', env, programs);
  return undefined;
}
