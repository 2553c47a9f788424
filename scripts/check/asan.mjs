// The native tests, the model runs and the fuzz targets' own inputs under AddressSanitizer (with leaks) and UndefinedBehaviorSanitizer.

import { runSanitized } from '../lib/native-run.mjs';

export const title = 'native tests under ASan and UBSan';

export function check() {
  if (process.platform === 'win32') return 'sanitizers are run on Linux and macOS only';
  const env = {
    ASAN_OPTIONS: 'detect_stack_use_after_return=1:strict_string_checks=1',
    UBSAN_OPTIONS: 'print_stacktrace=1:halt_on_error=1',
  };
  runSanitized('build-asan', 'address,undefined', env, { all: true });
  return undefined;
}
