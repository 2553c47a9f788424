// A vitest reporter that answers "what was not tested and why, and what failed": it counts the skipped tests by their
// reasons and lists the failed ones at the very end, or, when scripts/lib/tests.mjs runs vitest together with the
// native tests, leaves the lists to it in a file.

import { writeFileSync } from 'node:fs';
import type { Reporter, SerializedError, TestCase, TestModule, TestSuite } from 'vitest/node';
import { listTests } from '../../scripts/lib/test-lists.mjs';

/** What one run of a test program came to. */
export interface TestReport {
  passed: number;
  failed: number;
  skipped: { name: string; reason: string }[];
  /** With the first lines of what each said. */
  failures: { name: string; reason: string }[];
}

export default class EndReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly SerializedError[]): void {
    const report: TestReport = { passed: 0, failed: errors.length, skipped: [], failures: [] };
    for (const error of errors) report.failures.push({ name: 'outside of all tests', reason: beginning([error]) });
    for (const module of modules) {
      if (module.state() === 'failed' && [...module.children.allTests('failed')].length === 0) {
        report.failed++;
        report.failures.push({ name: module.relativeModuleId, reason: beginning(module.errors()) });
      }
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (result.state === 'passed') report.passed++;
        if (result.state === 'failed') {
          report.failed++;
          report.failures.push({ name: nameOf(test), reason: beginning(result.errors) });
        }
        if (result.state === 'skipped') report.skipped.push({ name: nameOf(test), reason: reasonOf(test) });
      }
    }
    const file = process.env['CAIRN_TEST_REPORT'];
    if (file !== undefined) writeFileSync(file, JSON.stringify(report));
    else console.log(listTests(report));
  }
}

/** The first lines of what an error says, and where in a test it was thrown. */
function beginning(errors: readonly SerializedError[]): string {
  const [error] = errors;
  if (error === undefined) return 'no error given';
  const at = error.stack?.split('\n').find((line) => /\.test\.[jt]s:/.test(line)) ?? '';
  return [...error.message.split('\n').slice(0, 6), at.trim()].filter((line) => line !== '').join('\n');
}

function nameOf(test: TestCase): string {
  return `${test.module.relativeModuleId} > ${test.fullName}`;
}

// The nearest word on it: that of the test itself, then those of the suites around it.
function reasonOf(test: TestCase): string {
  const result = test.result();
  if (result.state === 'skipped' && result.note) return result.note;
  let task: TestCase | TestSuite | TestModule = test;
  while (task.type !== 'module') {
    const reason = task.meta().skipReason;
    if (reason !== undefined) return reason;
    task = task.parent;
  }
  return test.options.mode === 'skip' ? 'no reason given' : 'not selected, or a hook before it failed';
}
