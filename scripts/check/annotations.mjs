// The locks: clang reads every native source and refuses whatever touches a member, or calls a method, without the lock
// that its declaration names (base/thread_annotations.h). A small fault is shown to it first, which it has to find: an
// annotation that has become empty would find nothing anywhere.

import { spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { nativeRoot } from '../../native/build.mjs';
import { BuildError, findProgram, root } from '../lib/project.mjs';

export const title = 'locks are held where they are declared';

const fault = `
#include "base/os.h"
struct Counter {
  void Add() { count++; }
  cairn::OsLock lock;
  int count GUARDED_BY(lock) = 0;
};
void Use(Counter* counter) { counter->Add(); }
`;

export async function check() {
  if (process.platform === 'win32') return 'done on Linux and macOS only';
  if (!findProgram('clang++')) return 'clang++ is missing (apt-get install clang)';
  const require = createRequire(import.meta.url);
  const flags = [
    ...[
      '-std=c++20',
      '-fno-exceptions',
      '-fno-rtti',
      '-fsyntax-only',
      '-Wthread-safety',
      '-Werror',
      '-Wno-unknown-pragmas',
    ],
    ...[
      '-DNAPI_VERSION=9',
      '-DNAPI_DISABLE_CPP_EXCEPTIONS',
      '-DNODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
      `-I${nativeRoot}`,
    ],
    ...['node-addon-api', 'node-api-headers'].flatMap((name) => [
      '-isystem',
      require(name).include_dir.replaceAll('"', ''),
    ]),
  ];
  const control = spawnSync('clang++', [...flags, '-x', 'c++', '-'], { input: fault, encoding: 'utf8' });
  if (!/requires holding lock 'lock'/.test(control.stderr)) {
    throw new BuildError(`clang did not find a missing lock that was shown to it:\n${control.stderr}`);
  }
  const { variables } = JSON.parse(readFileSync(join(nativeRoot, 'sources.gypi'), 'utf8'));
  const sources = [...variables.cairn_core_sources, ...variables.cairn_addon_sources];
  const faults = [];
  let next = 0;
  const work = async () => {
    while (next < sources.length) {
      const child = spawn('clang++', [...flags, join(root, sources[next++])], { stdio: ['ignore', 'ignore', 'pipe'] });
      let output = '';
      child.stderr.setEncoding('utf8').on('data', (text) => {
        output += text;
      });
      const code = await new Promise((resolve) => child.once('close', resolve));
      if (code !== 0) faults.push(output.trim());
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, work));
  if (faults.length > 0) throw new BuildError(faults.join('\n'));
  return undefined;
}
