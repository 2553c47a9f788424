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

/** Retries all of them at each SIGUSR2, until the returned function is called. `opened`: the cache, once it is open. */
export function retryAtSignal(opened: () => Cache | undefined, print: (line: string) => void): () => void {
  let isRetrying = false;
  const onSignal = (): void => {
    // The next one says what this one has left.
    if (isRetrying) return;
    const cache = opened();
    if (cache === undefined) {
      print('Cannot retry dead letters: the cache is not open yet');
      return;
    }
    isRetrying = true;
    void retryAll(cache, print).finally(() => {
      isRetrying = false;
    });
  };
  process.on('SIGUSR2', onSignal);
  return () => process.off('SIGUSR2', onSignal);
}

async function retryAll(cache: Cache, print: (line: string) => void): Promise<void> {
  const names = ['default', ...Object.keys(cache.options.stores ?? {})];
  for (const store of names) {
    const prefix = names.length === 1 ? '' : `${store}: `;
    try {
      const retried = await cache.writeBack.retryDeadLetters('all', { store });
      for (const line of describeRetried(retried)) print(prefix + line);
    } catch (error) {
      print(`${prefix}Cannot retry dead letters: ${reasonOf(error)}`);
    }
  }
}
