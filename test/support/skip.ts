// Tests that need something this machine may lack. They are not left out in silence: the reporter lists each reason at
// the end of the run, and CI, which installs what they need, lets none of them be skipped.
//
//   skipUnless(hasIt, 'memccapable is missing (apt-get install libmemcached-tools)')('name', async () => {...});
//   skipUnless(process.platform === 'linux', 'needs epoll', 'platform').describe('group', () => {...});

import { describe, type TestFunction, TestRunner, test } from 'vitest';

declare module 'vitest' {
  interface TaskMeta {
    /** Why this test, or all tests of this suite, are skipped. */
    skipReason?: string;
  }
}

/**
 * 'service': something that can be installed; with CAIRN_REQUIRE_SERVICES=1 its absence fails the test.
 * 'platform': something that this machine or this Node cannot have.
 */
export type Need = 'service' | 'platform';

/** `test` and `describe`, or their skipped selves. */
export interface ConditionalTest {
  (name: string, body: TestFunction, timeoutMs?: number): void;
  describe(name: string, body: () => void): void;
}

/** Returns a `test` that runs if the condition holds, and otherwise is skipped for `reason`. */
export function skipUnless(condition: unknown, reason: string, need: Need = 'service'): ConditionalTest {
  if (condition) {
    const run = (name: string, body: TestFunction, timeoutMs?: number): void => {
      test(name, body, timeoutMs);
    };
    return Object.assign(run, { describe: (name: string, body: () => void) => void describe(name, body) });
  }
  if (need === 'service' && process.env['CAIRN_REQUIRE_SERVICES'] === '1') {
    const fail = (name: string): void => {
      test(name, () => {
        throw new Error(`${reason}; CAIRN_REQUIRE_SERVICES=1 asks for it`);
      });
    };
    return Object.assign(fail, { describe: fail });
  }
  const skip = (name: string, body: TestFunction): void => {
    test.skip(name, body);
    lastTask().meta.skipReason = reason;
  };
  const skipAll = (name: string, body: () => void): void => {
    describe.skip(name, body);
    lastTask().meta.skipReason = reason;
  };
  return Object.assign(skip, { describe: skipAll });
}

// What was declared last in the suite that is being collected: vitest has no option that would say why at once.
function lastTask(): { meta: { skipReason?: string } } {
  const last = TestRunner.getCurrentSuite().tasks.at(-1);
  const task = last?.type === 'collector' ? last.suite : last;
  if (task === undefined) throw new Error('Expected vitest to have collected the skipped test');
  return task;
}
