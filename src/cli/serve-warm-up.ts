/** Shows the warm-up of a cache that serves meanwhile: a bar on a terminal, and a line every few seconds elsewhere. */
import type { CacheStats, WarmUpStats } from '../index.ts';
import { barOf, countText, type ProgressOutput, secondsText, sizeText } from './serve-data.ts';

/** How often it looks. */
const LOOK_MS = 250;
/** The interval of lines without a terminal. */
const PLAIN_LINE_MS = 5000;

/** The numbers of a cache that is warmed up. */
export type WarmedStats = Pick<CacheStats, 'chargedBytes' | 'limitBytes'> & { readonly warmUp: WarmUpStats };

export interface WarmUpDisplayOptions {
  readonly output: ProgressOutput;
  /** undefined: the cache is closed, or is not warmed up. */
  readonly stats: () => WarmedStats | undefined;
  /** Prints a line of the log. */
  readonly print: (line: string) => void;
}

/** Shows it until it is over. The returned function ends it. */
export function showWarmUp({ output, stats, print }: WarmUpDisplayOptions): () => void {
  let toldMs = 0;
  const erase = (): void => {
    if (output.isTerminal) output.write('\r\x1b[K');
  };
  const look = (): void => {
    const found = stats();
    if (found === undefined || found.warmUp.state === 'closed') {
      end();
      return;
    }
    const { warmUp } = found;
    if (warmUp.state !== 'running') {
      end();
      print(describeWarmUp(warmUp));
    } else if (output.isTerminal) output.write(`\r${warmUpBar(found)}\x1b[K`);
    else if (warmUp.elapsedMs - toldMs >= PLAIN_LINE_MS) {
      toldMs = warmUp.elapsedMs;
      print(`Warming up: ${rowsText(warmUp)}`);
    }
  };
  const timer = setInterval(look, LOOK_MS).unref();
  const end = (): void => {
    clearInterval(timer);
    erase();
  };
  look();
  return end;
}

/** The bar is the share of memory that is full: how many rows there are is not known. */
export function warmUpBar({ chargedBytes, limitBytes, warmUp }: WarmedStats): string {
  return `Warming up ${barOf(chargedBytes / limitBytes)} ${rowsText(warmUp)}`;
}

export function describeWarmUp(warmUp: WarmUpStats): string {
  const rest = warmUp.state === 'full' ? '. Memory is full: other rows are loaded when they are asked for' : '';
  const resident = warmUp.residentRows === 0 ? '' : `, beside ${countText(warmUp.residentRows, 'row')} that it had`;
  return `Warmed up: memory has ${rowsText(warmUp)}${resident}, in ${secondsText(warmUp.elapsedMs)}${rest}`;
}

function rowsText({ rows, bytes }: WarmUpStats): string {
  return `${countText(rows, 'row')} of the database, ${sizeText(bytes)}`;
}
