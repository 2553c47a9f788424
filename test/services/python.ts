// Which Python has a module: the first on the PATH need not be the one that the system's packages belong to.

import { spawnSync } from 'node:child_process';

/** The Python that can import `module`, or undefined. */
export function pythonWith(module: string): string | undefined {
  return ['python3', '/usr/bin/python3'].find(
    (python) => spawnSync(python, ['-c', `import ${module}`], { stdio: 'ignore' }).status === 0,
  );
}
