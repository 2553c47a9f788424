// What SIGUSR2 has a server do: all its databases are asked at the same time, and a second signal says what goes on.

import { afterEach, expect, test } from 'vitest';
import { retryAtSignal } from '../../src/cli/serve-letters.ts';
import type { Cache, RetriedDeadLetter } from '../../src/index.ts';
import { deferred, until } from '../support/threads.ts';

// A thread of tests gets no signals: what listens for one is called.
const signal = (): boolean => process.emit('SIGUSR2', 'SIGUSR2');
afterEach(() => process.removeAllListeners('SIGUSR2'));

const RETRIED = 'The database has the changes of 0 dead letters, of 0';

test('a database that is down holds up no retry of another, and a signal meanwhile says that one is under way', async () => {
  const down = deferred<RetriedDeadLetter[]>();
  const asked: string[] = [];
  const cache = {
    closed: false,
    options: { stores: { sessions: 'sqlite:sessions.db' } },
    writeBack: {
      retryDeadLetters: async (_: 'all', { store }: { store: string }) => {
        asked.push(store);
        return store === 'default' ? down.promise : [];
      },
    },
  };
  const lines: string[] = [];
  retryAtSignal(
    () => cache as unknown as Cache,
    (line) => lines.push(line),
  );
  signal();
  await until(() => lines.length === 1);
  expect(lines).toEqual([`sessions: ${RETRIED}`]);
  signal();
  expect(lines[1]).toMatch(/are being retried/);
  down.reject(new Error('it is down'));
  await until(() => lines.length === 3);
  expect(lines[2]).toBe('default: Cannot retry dead letters: it is down');
  expect(asked).toEqual(['default', 'sessions']);
  cache.closed = true;
  // Behind the end of the retry.
  await until(() => signal() && lines.at(-1)!.endsWith('the cache is closed'));
});

test('a signal before the cache is open is told, and ends no process', () => {
  const lines: string[] = [];
  retryAtSignal(
    () => undefined,
    (line) => lines.push(line),
  );
  expect(signal()).toBe(true);
  expect(lines).toEqual(['Cannot retry dead letters: the cache is not open yet']);
});
