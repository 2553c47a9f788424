// The tour that other platforms take (tour.mjs), on this one.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

test('the tour of the package passes through every part of it', () => {
  const folder = mkdtempSync(join(tmpdir(), 'cairn-tour-'));
  try {
    const [tour, index] = ['./tour.mjs', '../../dist/index.js'].map((path) =>
      fileURLToPath(new URL(path, import.meta.url)),
    );
    const { status, stdout, stderr } = spawnSync(process.execPath, [String(tour), String(index), folder], {
      encoding: 'utf8',
    });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toContain('The tour is over');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
