// Format, import order and lint rules.

import { bin } from '../lib/project.mjs';

export const title = 'lint';

export function check() {
  bin('@biomejs/biome', 'bin/biome', ['check', '--error-on-warnings', '.']);
}
