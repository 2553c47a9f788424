// `npm run bench -- instructions`: how many instructions an operation of the store takes. The count is the same on each
// run of one build, on a busy machine too, so a change of one percent can be seen. It says nothing about cache misses.

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { numberOption, readOptions } from '../lib/options.mjs';

export const summary = 'instructions of a get, a set and an eviction in the store, counted by valgrind';

export const help = `npm run bench -- instructions [options]

  --only TEXT       paths whose name contains it
  --operations N    operations of a path (default 20000)
  --json            one JSON object with a member for each path
  --against FILE    the output of --json of another build: prints the difference too
  --no-build        counts native/build-bench/hot_paths as it is

Needs valgrind, CMake and a C++ compiler.
`;

const root = fileURLToPath(new URL('../../', import.meta.url));
const program = join(root, 'native', 'build-bench', 'hot_paths');

function run(command, args) {
  const { status, error, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', cwd: root });
  if (error?.code === 'ENOENT') throw new RangeError(`${command} is not installed`);
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${status}:\n${stdout}${stderr}`);
  return { stdout, stderr };
}

function build() {
  run('cmake', ['-S', 'native', '-B', 'native/build-bench', '-DCAIRN_BENCH=ON']);
  run('cmake', ['--build', 'native/build-bench', '--target', 'hot_paths', '--parallel', String(cpus().length)]);
}

/** Instructions of one operation of the path. */
function count(path, operations) {
  const out = join(tmpdir(), `cairn-callgrind-${process.pid}`);
  const { stdout } = run('valgrind', [
    '--tool=callgrind',
    '--toggle-collect=CountedOperations',
    `--callgrind-out-file=${out}`,
    program,
    path,
    `--operations=${operations}`,
  ]);
  const total = /^(?:summary|totals): (\d+)/m.exec(readFileSync(out, 'utf8'));
  const done = /^(\d+) operations/m.exec(stdout);
  if (total === null || done === null) throw new Error(`valgrind counted nothing for "${path}"`);
  return Number(total[1]) / Number(done[1]);
}

export { measure as run };

async function measure(args) {
  const values = readOptions(args, help, {
    only: { type: 'string', default: '' },
    operations: { type: 'string', default: '20000' },
    json: { type: 'boolean' },
    against: { type: 'string' },
    'no-build': { type: 'boolean' },
  });
  if (values === undefined) return;
  const operations = numberOption(values, 'operations');
  if (!values['no-build']) build();
  const before = values.against === undefined ? {} : JSON.parse(readFileSync(values.against, 'utf8'));
  const counts = {};
  const paths = run(program, ['--list']).stdout.trim().split('\n');
  for (const path of paths.filter((name) => name.includes(values.only))) {
    counts[path] = Math.round(count(path, operations) * 10) / 10;
    if (values.json) continue;
    const old = before[path];
    const change = old === undefined ? '' : `  ${old.toFixed(1).padStart(8)}  ${percent(counts[path] / old - 1)}`;
    console.log(`${path.padEnd(34)} ${counts[path].toFixed(1).padStart(8)}${change}`);
  }
  if (values.json) console.log(JSON.stringify(counts, null, 2));
}

const percent = (ratio) => `${ratio < 0 ? '' : '+'}${(100 * ratio).toFixed(2)} %`;
