// Runs the native unit tests and vitest, lists what was skipped and what failed, and ends with one line that counts
// everything.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { filesUnder } from './inputs.mjs';
import { root } from './project.mjs';
import { ensureNativeTests } from './steps.mjs';
import { listTests } from './test-lists.mjs';

const nothing = { passed: 0, failed: 0, skipped: [], failures: [] };

/** Words for vitest that no test file has in its path. Words behind an option may be its value. */
function strangers(args) {
  const option = args.findIndex((arg) => arg.startsWith('-'));
  const words = option === -1 ? args : args.slice(0, option);
  const files = filesUnder('test').filter((file) => file.endsWith('.test.ts'));
  // vitest takes a line number behind a file, and absolute paths.
  const isPart = (word) => files.some((file) => file.includes(word.replace(/:\d+$/, '').replace(/^\.\//, '')));
  return words.filter((word) => !isPart(word));
}

/** Runs all tests; with arguments only vitest, which gets them. Returns whether everything passed. */
export function runTests(args = []) {
  const unknown = strangers(args);
  if (unknown.length > 0) {
    console.log(
      `No test file matches ${unknown.join(', ')}: expected a part of a path, such as test/api or log/recover`,
    );
    return false;
  }
  const folder = mkdtempSync(join(tmpdir(), 'cairn-tests-'));
  try {
    const native = args.length === 0 ? runNative(folder) : nothing;
    const script = runVitest(folder, args);
    const skipped = [...native.skipped, ...script.skipped];
    const failures = [...native.failures, ...script.failures];
    console.log(listTests({ skipped, failures }));
    const failed = native.failed + script.failed;
    console.log(`${native.passed + script.passed} passed, ${failed} failed, ${skipped.length} skipped`);
    return failed === 0;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function runNative(folder) {
  const program = ensureNativeTests();
  if (program === undefined) {
    return { ...nothing, skipped: [{ name: 'native_tests', reason: 'run on Linux and macOS only' }] };
  }
  const file = join(folder, 'native');
  const { status, signal } = spawnSync(program, [`--report=${file}`], {
    cwd: folder,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const [counts = '', ...lines] = existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : [];
  const [, passed, failed] = /^passed (\d+) failed (\d+)/.exec(counts) ?? [0, 0, 1];
  const listed = lines.map((line) => line.split('\t'));
  const of = (kind) =>
    listed.filter(([word]) => word === kind).map(([, name, reason]) => ({ name: `native ${name}`, reason }));
  if (signal !== null) console.log(`native_tests was ended by ${signal}`);
  const failures = of('fail');
  if (status !== 0 && failures.length === 0)
    failures.push({ name: 'native_tests', reason: `ended by ${signal ?? status}` });
  return {
    passed: Number(passed),
    failed: Math.max(Number(failed), status === 0 ? 0 : 1),
    skipped: of('skip'),
    failures,
  };
}

function runVitest(folder, args) {
  const file = join(folder, 'vitest.json');
  const { status } = spawnSync(process.execPath, [join(root, 'node_modules/vitest/vitest.mjs'), 'run', ...args], {
    cwd: root,
    env: { ...process.env, CAIRN_TEST_REPORT: file },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const report = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : nothing;
  return { ...report, failed: Math.max(report.failed, status === 0 ? 0 : 1) };
}
