// The recordings themselves, held against a memcached: Debian's 1.6.18, whose differences from 1.6.45 stand beside the
// steps. So a step that was changed by mistake, or that never was what memcached answers, does not become our law.

import { execFile, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { foreignEnvironment } from '../support/foreign-environment.ts';
import { whileMemcachedRuns, withMemcached1618, withMemcachedOfSasl } from '../support/memcached-process.ts';

const folder = fileURLToPath(new URL('transcripts', import.meta.url));

/** Recorded from 1.6.18, with the database of passwords that the library of SASL has. */
const SASL = 'binary-sasl.json';

/** Plays transcripts, and expects every step of them to be as it says. */
async function expectSteps(...args: readonly string[]): Promise<void> {
  const env = foreignEnvironment();
  const { code, output } = await new Promise<{ code: number | null; output: string }>((resolve) => {
    const child = execFile(process.execPath, [join(folder, 'play.mjs'), ...args], { cwd: folder, env }, (_, out, err) =>
      resolve({ code: child.exitCode, output: out + err }),
    );
  });
  expect(output).toMatch(/^total: [1-9]\d* passed, 0 failed$/m);
  expect(code).toBe(0);
}

withMemcached1618(
  'memcached 1.6.18 answers every recorded step, or as the step says that it does',
  async () => {
    const files = readdirSync(folder).filter((name) => name.endsWith('.json') && name !== SASL);
    await expectSteps('--start', 'memcached -u nobody', '--as', '1.6.18', ...files);
  },
  180_000,
);

withMemcachedOfSasl(
  'and every recorded step of SASL',
  async () => {
    const own = mkdtempSync(join(tmpdir(), 'cairn-sasl-'));
    try {
      const database = join(own, 'passwords');
      const settings = ['mech_list: plain', 'pwcheck_method: auxprop', 'auxprop_plugin: sasldb'];
      writeFileSync(join(own, 'memcached.conf'), [...settings, `sasldb_path: ${database}`, ''].join('\n'));
      const account = ['-p', '-c', '-a', 'memcached', '-f', database, '-u', hostname(), 'user'];
      expect(spawnSync('saslpasswd2', account, { input: 'secret' }).status).toBe(0);
      // memcached runs as another user.
      chmodSync(own, 0o755);
      chmodSync(database, 0o644);
      await whileMemcachedRuns((port) => expectSteps('127.0.0.1', String(port), SASL), ['-S'], { SASL_CONF_PATH: own });
    } finally {
      rmSync(own, { recursive: true });
    }
  },
  60_000,
);
