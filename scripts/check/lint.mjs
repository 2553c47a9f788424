// Format, import order and lint rules of everything, C++ too.

import { lint } from '../lib/format.mjs';

export const title = 'lint';

export const check = () => lint();
