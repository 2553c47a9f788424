// Types, tests included; and that the declarations can be written without looking into other files.

import { bin } from '../lib/project.mjs';

export const title = 'types';

export function check() {
  bin('typescript', 'bin/tsc', ['-p', 'tsconfig.json']);
  bin('typescript', 'bin/tsc', ['-p', 'tsconfig.build.json', '--noEmit']);
}
