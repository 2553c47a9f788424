// Several processes and one directory: the first one has it, the others are told its pid, and when the first is killed
// the next one has the directory at once, with all that was acknowledged.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { afterEach, describe, expect, test } from 'vitest';
import { DataDirectories } from '../support/data-directories.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { startCli, startServe } from '../support/serve-process.ts';
import { libraryUrl } from './harness/target.ts';

const data = new DataDirectories('processes');
const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

/** Opens the directory when it is told to, says how that went, and stays. */
const program = `
  const { Cache } = await import(process.argv[1]);
  console.log('ready');
  process.stdin.once('data', async () => {
    try {
      const cache = await Cache.open({ data: process.argv[2] });
      await cache.promises.set('from ' + process.pid, 'value');
      console.log(JSON.stringify({ size: cache.size }));
    } catch (error) {
      console.log(JSON.stringify({ code: error.code, message: error.message }));
      process.stdin.unref();
    }
  });
`;

interface Told {
  size?: number;
  code?: string;
  message?: string;
}

async function startOpener(directory: string): Promise<{ child: ChildProcess; open(): Promise<Told> }> {
  const child = spawn(process.execPath, ['--input-type=module', '-e', program, libraryUrl, directory], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  children.push(child);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  await lines.next();
  return {
    child,
    open: async () => {
      child.stdin.write('\n');
      return JSON.parse((await lines.next()).value ?? '{}') as Told;
    },
  };
}

async function kill(child: ChildProcess): Promise<void> {
  const closed = once(child, 'close');
  child.kill('SIGKILL');
  await closed;
}

describe('of processes that open a directory at the same moment', () => {
  test('one has it, the others are told which; when it is killed, another has it and what it acknowledged', async () => {
    const directory = data.fresh();
    for (let owners = 1; owners <= 3; owners++) {
      const openers = await Promise.all([1, 2, 3].map(() => startOpener(directory)));
      const told = await Promise.all(openers.map(({ open }) => open()));
      const first = told.findIndex(({ size }) => size !== undefined);
      expect(first, JSON.stringify(told)).toBeGreaterThanOrEqual(0);
      // Each owner has left an entry.
      expect(told[first]?.size).toBe(owners);
      const { pid } = openers[first]!.child;
      for (const [i, { code, message }] of told.entries()) {
        if (i === first) continue;
        expect(code).toBe('ERR_LOG_LOCKED');
        expect(message).toContain(String(pid));
      }
      await kill(openers[first]!.child);
    }
  });
});

describe('a second server on a directory', () => {
  test('does not start, says who has it, and does no harm', async () => {
    const directory = data.fresh();
    const first = await startServe(['--data', directory]);
    children.push(first.child);
    const socket = await MemcachedSocket.open(first.port);
    expect(await socket.ask('set key 0 0 5\r\nvalue\r\n')).toBe('STORED\r\n');
    for (let tries = 0; tries < 3; tries++) {
      const second = startCli(['serve', '-l', '127.0.0.1', '-p', '-1', '--data', directory]);
      children.push(second.child);
      expect((await second.ended).code).toBe(1);
      expect(second.stderr).toContain(String(first.child.pid));
      expect(await socket.ask(`set key${tries} 0 0 5\r\nvalue\r\n`)).toBe('STORED\r\n');
    }
    socket.destroy();
    await kill(first.child);
    const third = await startServe(['--data', directory]);
    children.push(third.child);
    const again = await MemcachedSocket.open(third.port);
    expect(await again.ask('get key key0 key1 key2\r\n', 'END\r\n')).toMatch(
      /^(VALUE key\d? 0 5\r\nvalue\r\n){4}END\r\n$/,
    );
    again.destroy();
    await third.stop();
  });
});
