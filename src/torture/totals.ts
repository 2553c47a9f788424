/** What campaigns have counted, together, and as lines. */
import type { WriteBackResult } from './campaign.ts';

export interface Totals {
  readonly figures: readonly Figure[];
  /** None is lost, stale, duplicated or of a zombie, no campaign failed, and a server lived. */
  readonly isRight: boolean;
}

export interface Figure {
  readonly name: string;
  readonly count: number;
  /** Anything but 0 is wrong. */
  readonly isFault?: boolean;
  readonly note?: string;
}

export function sum(results: readonly WriteBackResult[], failed: number): Totals {
  const of = (count: (result: WriteBackResult) => number): number =>
    results.reduce((total, result) => total + count(result), 0);
  const faults = new Map<string, number>();
  for (const [name, count] of results.flatMap((result) => [...result.faults])) {
    faults.set(name, (faults.get(name) ?? 0) + count);
  }
  const repeated = of((result) => result.repeated);
  const figures: Figure[] = [
    { name: 'lives', count: of(({ rounds }) => rounds), note: 'of the server' },
    { name: 'kills', count: of(({ kills }) => kills), note: 'with kill -9' },
    {
      name: 'zombies fenced',
      count: of(({ zombies }) => zombies),
      note: 'servers that went on after another took over',
    },
    ...Array.from(faults, ([name, count]) => ({ name, count })),
    { name: 'database gone back', count: of(({ failovers }) => failovers) },
    { name: 'effects taken by that', count: of(({ taken }) => taken) },
    { name: 'acknowledged', count: of(({ acknowledged }) => acknowledged), note: 'changes' },
    { name: 'unknown', count: of(({ unknown }) => unknown), note: 'no reply came: done or not, both are right' },
    { name: 'refused', count: of(({ refused }) => refused), note: 'the reply said that nothing was done' },
    { name: 'rows compared', count: of(({ rows }) => rows) },
    { name: 'effects', count: of(({ effects }) => effects), note: 'changes of rows, coalesced' },
    ...(repeated > 0 ? [{ name: 'repeated', count: repeated, note: 'which the level of this database allows' }] : []),
    { name: 'lost', count: of(({ lost }) => lost.length), isFault: true },
    { name: 'stale', count: of(({ stale }) => stale.length), isFault: true },
    { name: 'duplicated', count: of(({ duplicated }) => duplicated.length), isFault: true },
    { name: 'by zombies', count: of(({ foreign }) => foreign.length), isFault: true },
    { name: 'failed', count: failed, isFault: true, note: 'campaigns that did not come to their end' },
  ];
  const isRight =
    of(({ rounds }) => rounds) > 0 && figures.every(({ count, isFault }) => isFault !== true || count === 0);
  return { figures, isRight };
}

/** `12 lives, 9 kills, ... 0 lost`. */
export function lineOf({ figures }: Totals): string {
  return figures.map(({ name, count }) => `${count.toLocaleString('en')} ${name}`).join(', ');
}

export function tableOf({ figures }: Totals): readonly string[] {
  const width = Math.max(...figures.map(({ name }) => name.length));
  return figures.map(({ name, count, note }) => {
    const cells = `${name.padEnd(width)}  ${count.toLocaleString('en').padStart(11)}`;
    return note === undefined ? cells : `${cells}  ${note}`;
  });
}
