// The tarball: packed, installed in an empty folder, used, built anew there. See test/package/.

import { bin } from '../lib/project.mjs';

export const title = 'package';

export function check() {
  bin('vitest', 'vitest.mjs', ['run'], { env: { ...process.env, CAIRN_PACKAGE_TESTS: '1' } });
}
