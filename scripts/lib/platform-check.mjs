// What is checked of a platform that this machine only emulates.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { prebuild } from '../prebuild.mjs';
import { root } from './project.mjs';
import { buildNativeTests } from './steps.mjs';
import { cmakeArguments, otherTargets, packagesFor, runnerFor, toolsOf } from './targets.mjs';

/** Why `target` cannot be checked here, or undefined. */
export function missingFor(target) {
  if (!otherTargets().includes(target)) return 'cross-compiled on Linux x64 only';
  if (toolsOf(target) && runnerFor(target)) return undefined;
  return `the cross compiler or the emulator is missing (apt-get install ${packagesFor(target).join(' ')})`;
}

/** Builds the prebuilt addon of `target` with warnings as errors, and takes the tour of test/platform with it. */
export function checkTour(target) {
  const addon = prebuild(target, { args: ['--CDWERROR=ON'] });
  const { command, path, node, nodeProgram } = runnerFor(target);
  const folder = mkdtempSync(join(tmpdir(), 'cairn-tour-'));
  try {
    const [tour, index, data] = [join(root, 'test/platform/tour.mjs'), join(root, 'dist/index.js'), folder].map(path);
    // Wine starts programs by itself; for QEMU each has to be named.
    const runner = target.startsWith('win32') ? [] : [JSON.stringify([...command, nodeProgram()])];
    node([tour, index, data, ...runner], { env: { CAIRN_NATIVE_PATH: path(addon) } });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Builds the native tests for `target` and runs them. */
export function checkNativeTests(target) {
  const ending = target.startsWith('win32') ? '.exe' : '';
  const out = buildNativeTests(`build-test-${target}`, cmakeArguments(target), ['native_tests']);
  runnerFor(target).run(join(out, `native_tests${ending}`));
}
