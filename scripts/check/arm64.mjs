// Linux on ARM, cross-compiled and run under QEMU: the tour of the package with its prebuilt addon in Node for ARM. With
// CAIRN_ARM64_TESTS=1 the native tests too, which take some minutes there.

import { checkNativeTests, checkTour, missingFor } from '../lib/platform-check.mjs';

export const title = 'Linux arm64, under QEMU';

const target = 'linux-arm64';

export function check() {
  const missing = missingFor(target);
  if (missing !== undefined) return missing;
  checkTour(target);
  if (process.env.CAIRN_ARM64_TESTS === '1') checkNativeTests(target);
  return undefined;
}
