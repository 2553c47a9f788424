/**
 * Dead letters of the database behind `cairn serve`. No other process can have the directory of a server, so SIGUSR2
 * has the server itself retry them: it prints what has become of each.
 */
import { reasonOf } from '../errors.ts';
import type { Cache, RetriedDeadLetter } from '../index.ts';
import { countText } from './serve-data.ts';

/** A line for each letter, and one for all. */
export function describeRetried(retried: readonly RetriedDeadLetter[]): string[] {
  const done = retried.filter(({ outcome }) => outcome === 'retried').length;
  return [
    ...retried.map(({ id, outcome, reason }) => `${id}  ${outcome}${reason === undefined ? '' : `: ${reason}`}`),
    `The database has the changes of ${countText(done, 'dead letter')}, of ${retried.length}`,
  ];
}

/** Retries all of them at each SIGUSR2 from now on. `opened`: the cache, once it is open. */
export function retryAtSignal(opened: () => Cache | undefined, print: (line: string) => void): void {
  let isRetrying = false;
  process.on('SIGUSR2', () => {
    const cache = opened();
    if (isRetrying) print('Dead letters are being retried; what is left then needs another signal');
    else if (cache === undefined) print('Cannot retry dead letters: the cache is not open yet');
    else if (cache.closed) print('Cannot retry dead letters: the cache is closed');
    else {
      isRetrying = true;
      void retryAll(cache, print).finally(() => {
        isRetrying = false;
      });
    }
  });
}

// Of all databases at the same time: one that is down has no other wait.
async function retryAll(cache: Cache, print: (line: string) => void): Promise<void> {
  const names = ['default', ...Object.keys(cache.options.stores ?? {})];
  const retry = async (store: string): Promise<void> => {
    const prefix = names.length === 1 ? '' : `${store}: `;
    try {
      const retried = await cache.writeBack.retryDeadLetters('all', { store });
      for (const line of describeRetried(retried)) print(prefix + line);
    } catch (error) {
      print(`${prefix}Cannot retry dead letters: ${reasonOf(error)}`);
    }
  };
  await Promise.all(names.map(retry));
}
