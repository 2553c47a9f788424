import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

// The package tests pack and install the tarball, which takes longer than all others together: `npm run check:pack`.
const packageTests = process.env['CAIRN_PACKAGE_TESTS'] === '1';

export default defineConfig({
  test: {
    include: packageTests ? ['test/package/**/*.test.ts'] : ['test/**/*.test.ts'],
    exclude: packageTests ? [] : ['test/package/**'],
    reporters: ['default', './test/support/reporter.ts'],
    // A process for each file: the addon's state is per process, and a crash names the file that caused it.
    pool: 'forks',
    // Tests wait more than they compute, so that even a machine of two processors has two files at a time.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    allowOnly: false,
    // What hangs is ended; what is slow, on a busy machine or under a sanitizer, is not wrong.
    testTimeout: packageTests ? 600_000 : 120_000,
    hookTimeout: packageTests ? 600_000 : 120_000,
    teardownTimeout: 10_000,
    expect: { poll: { timeout: 60_000 } },
  },
});
