// Whether a step has to run: its inputs' contents are hashed and compared with those of its last successful run.
// Contents, not times: a checkout or a copy changes the times of files that are the same.

import { createHash } from 'node:crypto';
import { existsSync, linkSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
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
 * Of several processes that find the same work at the same time, one does it and the others wait for it.
 * @param {{ stamp: string, inputs: string[], facts?: string[], outputs?: string[] }} job
 * @param {() => void} body
 */
export function unlessDone({ stamp, inputs, facts = [], outputs = [] }, body) {
  const file = join(root, stamp);
  const now = fingerprint(inputs, facts);
  const isDone = () =>
    outputs.every((output) => existsSync(join(root, output))) && existsSync(file) && readFileSync(file, 'utf8') === now;
  if (isDone()) return false;
  mkdirSync(dirname(file), { recursive: true });
  const release = lock(`${file}.lock`);
  try {
    if (isDone()) return false;
    rmSync(file, { force: true });
    body();
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, now);
    return true;
  } finally {
    release();
  }
}

/** Makes `file`, which names this process, once no other process that runs has it. Returns what removes it. */
function lock(file) {
  // The name is there before the lock is: a process that finds the lock can always read it.
  const own = `${file}.${process.pid}`;
  writeFileSync(own, String(process.pid));
  let hasTold = false;
  try {
    for (;;) {
      try {
        linkSync(own, file);
        return () => rmSync(file, { force: true });
      } catch (error) {
        if (error.code !== 'EEXIST') throw error;
      }
      const owner = ownerOf(file);
      if (owner !== undefined && !isRunning(owner)) rmSync(file, { force: true });
      else {
        if (!hasTold) console.error(`> Waiting for process ${owner}, which does the same (${relative(root, file)})`);
        hasTold = true;
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
      }
    }
  } finally {
    rmSync(own, { force: true });
  }
}

/** The process that has a lock; undefined: it was released. */
function ownerOf(file) {
  try {
    return Number(readFileSync(file, 'utf8'));
  } catch {
    return undefined;
  }
}

function isRunning(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}
