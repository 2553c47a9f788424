// What `npm test` runs.

import { BuildError } from '../lib/project.mjs';
import { runTests } from '../lib/tests.mjs';

export const title = 'tests';

export function check() {
  if (!runTests()) throw new BuildError('Tests failed');
}
