// Linux on ARM, cross-compiled and run under QEMU: the tour of the package with its prebuilt addon in Node for ARM.
// With CAIRN_ARM64_TESTS=1 the native tests too, which take some minutes there.

import { checkPlatform } from '../lib/platform-check.mjs';

export const title = 'Linux arm64, under QEMU';

export const check = () => checkPlatform('linux-arm64', { nativeTests: process.env.CAIRN_ARM64_TESTS === '1' });
