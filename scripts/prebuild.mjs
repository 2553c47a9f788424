// `npm run prebuilds`: builds prebuilds/<platform>-<arch>.node for this machine, as it goes into the package. (It is not
// called "prebuild", which npm would run by itself before "build".)
//
// On Linux with glibc the addon is linked against the libraries of glibc 2.17, with libstdc++ inside, so that one file
// loads wherever Node's own builds do (glibc 2.28) and on musl; `checkPortable` is the guard. The old libraries come
// from an npm package that holds a cross compiler's system root.

import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { buildAddon, fetchTool, isMusl, nativeRoot } from '../native/build.mjs';
import { BuildError, findProgram, main, root, run } from './lib/project.mjs';
import { ensurePackages } from './lib/steps.mjs';

const glibcMax = '2.28'; // what the official builds of Node 22 and later need themselves
const sysroots = {
  x64: ['@napi-rs/cross-toolchain-x64-target-x86_64', '1.0.0'],
  arm64: ['@napi-rs/cross-toolchain-x64-target-aarch64', '1.0.3'],
};

// Younger than the libraries we link against, and still old enough: left without a version, they bind to the default.
const younger = { getentropy: '2.25', getrandom: '2.25', memfd_create: '2.27', mlock2: '2.27' };

/** Unpacks the old libraries and returns the folder that holds their lib/. */
function fetchSysroot() {
  const [name, version] = sysroots[process.arch];
  const folder = join(fetchTool(name, version), name);
  const unpacked = join(folder, 'unpacked');
  if (!existsSync(join(unpacked, '.done'))) {
    if (!findProgram('xz'))
      throw new BuildError('xz is missing, which unpacks the old libraries (apt-get install xz-utils)');
    const archive = readdirSync(folder).find((file) => file.endsWith('.tar.xz'));
    mkdirSync(unpacked, { recursive: true });
    run('tar', ['xJf', join(folder, archive), '-C', unpacked, '--wildcards', '*/sysroot/*']);
    run('touch', [join(unpacked, '.done')]);
  }
  const sysroot = findFolder(unpacked, 'sysroot', 3);
  if (sysroot === undefined) throw new BuildError(`No sysroot folder in ${unpacked}`);
  return sysroot;
}

function findFolder(folder, name, depth) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (!entry.isDirectory()) continue;
    const path = join(folder, entry.name);
    const found = entry.name === name ? path : depth > 0 ? findFolder(path, name, depth - 1) : undefined;
    if (found !== undefined) return found;
  }
  return undefined;
}

/**
 * Throws unless the addon needs nothing newer than `glibcMax`: of what it takes from outside, whatever has a version is
 * old enough, and whatever has none is Node's. Returns the newest version that it needs.
 */
export function checkPortable(file) {
  const { stdout, status } = spawnSync('objdump', ['-T', file], { encoding: 'utf8', maxBuffer: 64 << 20 });
  if (status !== 0) throw new BuildError(`objdump cannot read ${file}`);
  const compare = (a, b) => {
    const [[a1, a2], [b1, b2]] = [a, b].map((version) => version.split('.').map(Number));
    return a1 - b1 || a2 - b2;
  };
  let newest = '2.0';
  const strange = [];
  for (const line of stdout.split('\n').filter((text) => text.includes('*UND*'))) {
    const [, version, symbol] = /\*UND\*\s+[0-9a-f]+\s+(?:\(?([A-Za-z0-9_.]+)\)?\s+)?(\S+)$/.exec(line) ?? [];
    const weak = /^[0-9a-f]+\s+w/.test(line);
    if (symbol in younger) {
      if (compare(younger[symbol], newest) > 0) newest = younger[symbol];
    } else if (version === undefined || version === 'Base') {
      // __tls_get_addr is the dynamic loader's own, in every C library; its file has another name in each.
      if (!weak && !/^(napi_|node_api_|__tls_get_addr$)/.test(symbol ?? '')) strange.push(symbol ?? line);
    } else if (/^GLIBC_[0-9]/.test(version)) {
      const number = version.slice('GLIBC_'.length);
      if (compare(number, glibcMax) > 0) strange.push(`${symbol} (${version})`);
      if (compare(number, newest) > 0) newest = number;
    } else {
      strange.push(`${symbol} (${version})`);
    }
  }
  if (strange.length > 0) {
    throw new BuildError(`${file} needs what glibc ${glibcMax} and Node do not have:\n  ${strange.join('\n  ')}`);
  }
  return newest;
}

/** Builds the prebuilt addon of this machine and returns its path. */
export function prebuild() {
  const glibc = process.platform === 'linux' && !isMusl();
  const portable = glibc && process.arch in sysroots;
  const args = portable ? [`--CDPORTABLE_SYSROOT=${fetchSysroot()}`] : [];
  const built = buildAddon({ out: join(nativeRoot, 'build-portable'), args });
  const name = `${process.platform}-${process.arch}${process.platform === 'linux' && !glibc ? '-musl' : ''}.node`;
  const file = join(root, 'prebuilds', name);
  mkdirSync(join(root, 'prebuilds'), { recursive: true });
  copyFileSync(built, file);
  if (process.platform === 'linux') run('strip', ['--strip-unneeded', file]);
  if (process.platform === 'darwin') run('strip', ['-x', file]);
  const needs = glibc ? `, needs glibc ${checkPortable(file)}` : '';
  // Standard error: `npm pack --json` writes its answer to the other.
  console.error(`prebuilds/${name}: ${Math.round(statSync(file).size / 1024)} KiB${needs}`);
  return file;
}

if (process.argv[1] === join(root, 'scripts', 'prebuild.mjs')) {
  await main(() => {
    ensurePackages();
    prebuild();
  });
}
