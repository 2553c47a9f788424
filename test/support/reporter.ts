// A vitest reporter that answers "what was not tested, and why": it lists the skipped tests by reason, or, when
// scripts/lib/tests.mjs runs vitest together with the native tests, leaves the lists to it in a file.

import { writeFileSync } from 'node:fs';
import type { Reporter, SerializedError, TestCase, TestModule, TestSuite } from 'vitest/node';

/** What one run of a test program came to. */
export interface TestReport {
  passed: number;
  failed: number;
  skipped: { name: string; reason: string }[];
}

export default class SkipReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly SerializedError[]): void {
    const report: TestReport = { passed: 0, failed: errors.length, skipped: [] };
    for (const module of modules) {
      if (module.state() === 'failed' && [...module.children.allTests('failed')].length === 0) report.failed++;
      for (const test of module.children.allTests()) {
        const result = test.result();
        if (result.state === 'passed') report.passed++;
        if (result.state === 'failed') report.failed++;
        if (result.state === 'skipped') report.skipped.push({ name: nameOf(test), reason: reasonOf(test) });
      }
    }
    const file = process.env['CAIRN_TEST_REPORT'];
    if (file !== undefined) writeFileSync(file, JSON.stringify(report));
    else for (const { name, reason } of report.skipped) console.log(`skipped: ${name}: ${reason}`);
  }
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
