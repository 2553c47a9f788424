// The fallback build with node-gyp and binding.gyp. It is given a folder of headers, so that it fetches none: those of
// node-api-headers, with the two .gypi files that node-gyp reads there. The addon must export what the usual one does.

import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fetchTool, nativeRoot } from '../../native/build.mjs';
import { BuildError, findProgram, root, run } from '../lib/project.mjs';

export const title = 'node-gyp build';

const require = createRequire(import.meta.url);

export function check() {
  for (const program of ['python3', 'make']) {
    if (!findProgram(program)) return `${program} is missing, which node-gyp needs (apt-get install ${program})`;
  }
  const headers = join(nativeRoot, 'build-gyp-headers');
  const include = join(headers, 'include', 'node');
  mkdirSync(include, { recursive: true });
  cpSync(require('node-api-headers').include_dir, include, { recursive: true });
  const common = {
    default_configuration: 'Release',
    configurations: { Release: {}, Debug: {} },
    conditions: [["OS!='win'", { cflags: ['-fPIC'] }]],
  };
  writeFileSync(join(include, 'common.gypi'), JSON.stringify({ target_defaults: common }));
  writeFileSync(join(include, 'config.gypi'), JSON.stringify({ variables: {} }));
  const gyp = join(fetchTool('node-gyp', '12.4.0'), 'node-gyp', 'bin', 'node-gyp.js');
  run(process.execPath, [gyp, 'rebuild', `--nodedir=${headers}`, '--loglevel=warn', '--jobs=2'], { quiet: true });
  const [made, usual] = ['build', 'native/build'].map((folder) =>
    exportsOf(join(root, folder, 'Release', 'cairn.node')),
  );
  if (made !== usual) throw new BuildError(`The two builds export different things:\n  ${made}\n  ${usual}`);
  return undefined;
}

// In a separate process, because an addon stays loaded.
function exportsOf(file) {
  const script = 'console.log(Object.keys(require(process.argv[1])).sort().join(" "))';
  const { stdout, stderr, status } = spawnSync(process.execPath, ['-e', script, file], { encoding: 'utf8' });
  if (status !== 0) throw new BuildError(`${file} does not load: ${stderr}`);
  return stdout.trim();
}
