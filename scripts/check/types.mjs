// Types, tests and tools included.

import { bin } from '../lib/project.mjs';

export const title = 'types';

export function check() {
  bin('typescript', 'bin/tsc', ['-p', 'tsconfig.json']);
}
