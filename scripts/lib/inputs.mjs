// Whether a step has to run: its inputs' contents are hashed and compared with those of its last successful run.
// Contents, not times: a checkout or a copy changes the times of files that are the same.

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { root } from './project.mjs';

const generated = /^(build|build-.*|node_modules|\.tools)$/;

/** Every file under `path` (a file or a folder, relative to the root), generated folders left out, in a fixed order. */
export function filesUnder(path) {
  const absolute = join(root, path);
  if (!existsSync(absolute)) return [];
  if (statSync(absolute).isFile()) return [absolute];
  const files = [];
  for (const entry of readdirSync(absolute, { withFileTypes: true })) {
    if (entry.isDirectory() && !generated.test(entry.name)) files.push(...filesUnder(join(path, entry.name)));
    if (entry.isFile()) files.push(join(absolute, entry.name));
  }
  return files.sort();
}

/**
 * A hash over the files under `paths` and over `facts`, strings that the result depends on too.
 * @param {string[]} paths
 * @param {string[]} facts
 */
export function fingerprint(paths, facts = []) {
  const hash = createHash('sha256');
  for (const fact of facts) hash.update(`${fact}\0`);
  for (const file of paths.flatMap(filesUnder)) {
    hash.update(`${relative(root, file)}\0`);
    hash.update(readFileSync(file));
  }
  return hash.digest('hex');
}

/**
 * Runs `body` unless `stamp` (a file) says that it succeeded with these inputs and every file of `outputs` is there.
 * Returns whether it ran. The stamp is removed first, so that a failure is not taken for a success the next time.
 * @param {{ stamp: string, inputs: string[], facts?: string[], outputs?: string[] }} job
 * @param {() => void} body
 */
export function unlessDone({ stamp, inputs, facts = [], outputs = [] }, body) {
  const file = join(root, stamp);
  const now = fingerprint(inputs, facts);
  const there = outputs.every((output) => existsSync(join(root, output)));
  if (there && existsSync(file) && readFileSync(file, 'utf8') === now) return false;
  rmSync(file, { force: true });
  body();
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, now);
  return true;
}
