// The formatters: Biome for what is JavaScript and TypeScript, clang-format for C++. Both are packages of one fixed
// version, the same on every machine; clang-format is WebAssembly and needs no installation.

import { relative } from 'node:path';
import { filesUnder } from './inputs.mjs';
import { BuildError, bin, root } from './project.mjs';

const isNative = (file) => /\.(h|cc|c)$/.test(file);

/** Paths given by a user, divided; without any, everything that each formatter is responsible for. */
function divided(paths) {
  if (paths.length > 0) return { native: paths.filter(isNative), others: paths.filter((path) => !isNative(path)) };
  const native = ['native', 'test/native', 'bench/native'].flatMap(filesUnder).filter(isNative);
  return { native: native.map((file) => relative(root, file)), others: ['.'] };
}

const clangFormat = (args, options) => bin('@wasm-fmt/clang-format', 'clang-format-cli.cjs', args, options);
const biome = (args) => bin('@biomejs/biome', 'bin/biome', args);

/** Throws a BuildError, having said where, if a file is not formatted or breaks a rule. */
export function lint(paths = []) {
  const { native, others } = divided(paths);
  if (others.length > 0) biome(['check', '--error-on-warnings', ...others]);
  if (native.length === 0) return;
  try {
    clangFormat(['--dry-run', '-Werror', '--fno-color-diagnostics', ...native], { quiet: true });
  } catch (error) {
    throw new BuildError(`Not formatted (\`npm run format\` does it):\n${faultsIn(error.message)}`);
  }
}

// clang-format names each place; the caret lines around it say nothing that its line number does not.
function faultsIn(output) {
  const places = [...output.matchAll(/^(\S+:\d+):\d+: error: /gm)].map(([, place]) => `  ${place}`);
  return places.length > 0 ? [...new Set(places)].join('\n') : output;
}

/** Rewrites what is not formatted. */
export function format(paths = []) {
  const { native, others } = divided(paths);
  if (others.length > 0) biome(['check', '--write', ...others]);
  if (native.length > 0) clangFormat(['-i', ...native]);
}
