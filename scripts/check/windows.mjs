// Windows, cross-compiled with MinGW and run under Wine: the native tests, and the tour of the package with its prebuilt
// addon in Node for Windows.

import { checkNativeTests, checkTour, missingFor } from '../lib/platform-check.mjs';

export const title = 'Windows, under Wine';

const target = 'win32-x64';

export function check() {
  const missing = missingFor(target);
  if (missing !== undefined) return missing;
  checkTour(target);
  checkNativeTests(target);
  return undefined;
}
