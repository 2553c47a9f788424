// The native tests and the model runs under AddressSanitizer (with leaks) and UndefinedBehaviorSanitizer.

import { asanEnvironment, modelPrograms, nativeTestParts, runSanitized } from '../lib/native-run.mjs';

export const title = 'native tests under ASan and UBSan';

export async function check() {
  if (process.platform === 'win32') return 'sanitizers are run on Linux and macOS only';
  const parts = nativeTestParts.map((part) => ['native_tests', part]);
  const programs = [...modelPrograms().map((program) => [program]), ...parts];
  await runSanitized('build-asan', 'address,undefined', asanEnvironment, programs);
  return undefined;
}
