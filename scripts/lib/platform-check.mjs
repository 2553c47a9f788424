// What is checked of a platform that this machine only emulates.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { prebuild } from '../prebuild.mjs';
import { nativeTestParts } from './native-run.mjs';
import { inPairs } from './pairs.mjs';
import { root } from './project.mjs';
import { buildNativeTests } from './steps.mjs';
import { cmakeArguments, otherTargets, packagesFor, runnerFor, toolsOf } from './targets.mjs';

/**
 * Takes the tour of test/platform with the prebuilt addon of `target`, made with warnings as errors; with
 * `nativeTests` runs those too. Returns why that cannot be done here, if it cannot.
 */
export async function checkPlatform(target, { nativeTests }) {
  if (!otherTargets().includes(target)) return 'cross-compiled on Linux x64 only';
  const runner = runnerFor(target);
  if (!toolsOf(target) || !runner) {
    return `the cross compiler or the emulator is missing (apt-get install ${packagesFor(target).join(' ')})`;
  }
  await takeTour(target, runner);
  if (nativeTests) {
    const out = buildNativeTests(
      `build-test-${target}`,
      [...cmakeArguments(target), '-DPRECOMPILE=ON'],
      ['native_tests'],
    );
    const program = join(out, `native_tests${target.startsWith('win32') ? '.exe' : ''}`);
    await inPairs(nativeTestParts.map((part) => () => runner.run(program, [part])));
  }
  return undefined;
}

async function takeTour(target, { path, node, nodeCommand }) {
  const addon = prebuild(target, { args: ['--CDWERROR=ON'] });
  const folder = mkdtempSync(join(tmpdir(), 'cairn-tour-'));
  try {
    const [tour, index, data] = [join(root, 'test/platform/tour.mjs'), join(root, 'dist/index.js'), folder].map(path);
    // Wine starts the programs of its programs by itself; QEMU has to be named each time.
    const runner = target.startsWith('win32') ? [] : [JSON.stringify(nodeCommand())];
    await node([tour, index, data, ...runner], { CAIRN_NATIVE_PATH: path(addon) });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
