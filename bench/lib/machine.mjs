// On what the figures were made: without it they say nothing.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { arch, cpus, loadavg, platform, release, totalmem } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cpuSource } from './clock.mjs';

export const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

function commit() {
  try {
    const head = execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: root, stdio: 'pipe' }).toString().trim();
    const changed = execFileSync('git', ['status', '--porcelain'], { cwd: root, stdio: 'pipe' }).toString() !== '';
    return changed ? `${head} with changes` : head;
  } catch {
    return 'unknown';
  }
}

/** The installed version of a package, or of the project itself. */
export function versionOf(name) {
  const folder = name === 'cairn-cache' ? root : join(root, 'node_modules', name);
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).version;
}

export function describeMachine() {
  const models = cpus().map(({ model }) => model.trim());
  return {
    cpu: `${models.length} x ${models[0] ?? 'unknown'}`,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: `${platform()} ${release()} ${arch()}`,
    node: process.version,
    v8: process.versions.v8,
    commit: commit(),
    cpuTime: cpuSource,
    loadAtStart: loadavg()[0],
    date: new Date().toISOString(),
  };
}

export function printMachine(machine) {
  console.log(`cairn-cache ${versionOf('cairn-cache')} (${machine.commit}), Node ${machine.node}, ${machine.system}`);
  console.log(`${machine.cpu}, ${machine.memoryGiB} GiB, load ${machine.loadAtStart.toFixed(1)} at the start`);
  if (machine.cpuTime !== 'scheduler') {
    console.log(`CPU time is that of the ${machine.cpuTime}, as precise as the clock tick: read it with care`);
  }
  console.log('');
}
