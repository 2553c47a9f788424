// The recordings themselves, held against a memcached: Debian's 1.6.18, whose differences from 1.6.45 stand beside the
// steps. So a step that was changed by mistake, or that never was what memcached answers, does not become our law.

import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { withMemcached1618 } from '../support/memcached-process.ts';

const folder = fileURLToPath(new URL('transcripts', import.meta.url));

withMemcached1618(
  'memcached 1.6.18 answers every recorded step, or as the step says that it does',
  async () => {
    const files = readdirSync(folder).filter((name) => name.endsWith('.json'));
    const args = [join(folder, 'play.mjs'), '--start', 'memcached -u nobody', '--as', '1.6.18', ...files];
    const { LD_PRELOAD: _ours, ...env } = process.env; // A sanitizer is not for other people's programs.
    const { code, output } = await new Promise<{ code: number | null; output: string }>((resolve) => {
      const child = execFile(process.execPath, args, { cwd: folder, env }, (_, out, err) =>
        resolve({ code: child.exitCode, output: out + err }),
      );
    });
    expect(output).toMatch(/^total: \d+ passed, 0 failed$/m);
    expect(code).toBe(0);
  },
  180_000,
);
