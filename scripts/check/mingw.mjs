// The addon for Windows, cross-compiled with MinGW: the sources must not lean on POSIX outside base/os_*. The result
// may need nothing but Node and Windows itself.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { buildAddon, nativeRoot } from '../../native/build.mjs';
import { BuildError, findProgram } from '../lib/project.mjs';

export const title = 'Windows cross build';

const tool = (name) => `x86_64-w64-mingw32-${name}`;

export function check() {
  if (!findProgram(tool('g++-posix'))) return 'MinGW is missing (apt-get install g++-mingw-w64-x86-64-posix)';
  const compilers = ['--cc', tool('gcc-posix'), '--cxx', tool('g++-posix')];
  const target = ['--CDCMAKE_SYSTEM_NAME=Windows', '--CDCMAKE_SYSTEM_PROCESSOR=AMD64'];
  const file = buildAddon({
    out: join(nativeRoot, 'build-mingw'),
    args: ['-a', 'x64', ...compilers, ...target, '--CDWERROR=ON'],
  });
  const { stdout } = spawnSync(tool('objdump'), ['-p', file], { encoding: 'utf8' });
  const needs = [...stdout.matchAll(/DLL Name: (\S+)/g)].map(([, name]) => name.toLowerCase());
  const strange = needs.filter(
    (name) => !/^(node\.exe|kernel32\.dll|msvcrt\.dll|bcrypt\.dll|ws2_32\.dll|api-ms-win-.*)$/.test(name),
  );
  if (needs.length === 0 || strange.length > 0) {
    throw new BuildError(`${file} should need only Node and Windows, but needs: ${needs.join(', ')}`);
  }
  return undefined;
}
