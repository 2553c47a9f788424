// Windows, cross-compiled with MinGW and run under Wine: the native tests, and the tour of the package with its
// prebuilt addon in Node for Windows.

import { checkPlatform } from '../lib/platform-check.mjs';

export const title = 'Windows, under Wine';

export const check = () => checkPlatform('win32-x64', { nativeTests: true });
