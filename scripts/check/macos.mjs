// macOS: the addon for both of its processors, and the native tests for Apple's, are compiled, warnings being errors,
// and linked. Nothing here can run them. Of the names that the addon leaves open all must be Node's.

import { join } from 'node:path';
import { buildAddon, nativeRoot } from '../../native/build.mjs';
import { findLlvm, macosPackages, macosProcessors, unresolvedIn, writeToolchain } from '../lib/macos.mjs';
import { BuildError } from '../lib/project.mjs';
import { buildNativeTests } from '../lib/steps.mjs';

export const title = 'macOS, compiled and linked';

export function check() {
  if (process.platform !== 'linux') return 'cross-compiled on Linux only';
  const tools = findLlvm();
  if (!tools) return `the compiler's parts are missing (apt-get install ${macosPackages.join(' ')})`;
  for (const processor of Object.keys(macosProcessors)) {
    const toolchain = writeToolchain(tools, processor);
    const addon = buildAddon({
      out: join(nativeRoot, `build-macos-${processor}`),
      args: ['-a', processor, `--CDCMAKE_TOOLCHAIN_FILE=${toolchain}`, '--CDWERROR=ON'],
    });
    const strange = unresolvedIn(addon, tools).filter((name) => !/^_(napi|node_api)_/.test(name));
    if (strange.length > 0) throw new BuildError(`Neither macOS nor Node has:\n  ${strange.join('\n  ')}`);
    // They are the same for both, and are what takes long; unoptimised, as they are not run.
    if (processor !== 'arm64') continue;
    const common = [`-DCMAKE_TOOLCHAIN_FILE=${toolchain}`, '-DWERROR=ON', '-DPRECOMPILE=ON'];
    const options = [...common, '-DCMAKE_BUILD_TYPE=Debug'];
    buildNativeTests(`build-test-macos-${processor}`, options, ['native_tests']);
  }
  return undefined;
}
