/**
 * `cairn rebuild`: brings what a directory has to a database that has gone back further than the log is kept. No cache
 * may have the directory open meanwhile.
 */
import { Command } from 'commander';
import { reasonOf } from '../errors.ts';
import type { RebuildProgress, Rebuilt } from '../write-back/index.ts';
import { barOf, countText, type ProgressOutput } from './serve-data.ts';

/** Where its lines go, and its exit code. */
export interface RebuildOutput extends ProgressOutput {
  print(line: string): void;
  printError(line: string): void;
  setExitCode(code: number): void;
}

const console_: RebuildOutput = {
  isTerminal: process.stderr.isTTY === true,
  write: (text) => void process.stderr.write(text),
  print: (line) => console.log(line),
  printError: (line) => console.error(line),
  setExitCode: (code) => {
    process.exitCode = code;
  },
};

/** Makes the subcommand. */
export function rebuildCommand(output: RebuildOutput = console_): Command {
  return new Command('rebuild')
    .description('bring all that a directory has to a database that has gone back further than the log is kept')
    .helpOption('-h, --help', 'print this help and exit')
    .requiredOption('--data <dir>', 'the directory of the log: what --data of serve, or the option data, is')
    .requiredOption('--store <database>', 'the database: what --store of serve, or the option store, is')
    .option('--name <name>', 'which of several databases that is: its name in the option stores, or default')
    .action(async ({ data, store, name }: { data: string; store: string; name?: string }) => {
      let isDrawn = false;
      const erase = (): void => {
        if (isDrawn) output.write('\r\x1b[K');
        isDrawn = false;
      };
      const onProgress = (progress: RebuildProgress): void => {
        if (!output.isTerminal) return;
        isDrawn = true;
        output.write(`\r${progressLine(progress)}\x1b[K`);
      };
      try {
        const { rebuildDirectory } = await import('../write-back/index.ts');
        const rebuilt = await rebuildDirectory(data, store, onProgress, name);
        erase();
        for (const line of describeRebuilt(rebuilt)) output.print(line);
      } catch (error) {
        erase();
        output.printError(`cairn rebuild: ${reasonOf(error)}`);
        output.setExitCode(1);
      }
    });
}

function progressLine({ bytes, bytesTotal, rows }: RebuildProgress): string {
  return `Rebuilding ${barOf(bytesTotal === 0 ? 1 : bytes / bytesTotal)} ${countText(rows, 'row')}`;
}

/** What was written, and what could not be known. */
export function describeRebuilt(rebuilt: Rebuilt): string[] {
  const { database, rows, deadLetters, from, oldest, snapshotMs, hasCounters, hasHistory } = rebuilt;
  const since = snapshotMs === undefined ? '' : ` at ${new Date(snapshotMs).toISOString()}`;
  return [
    `Rebuilt ${database}: ${countText(rows, 'change')} of rows, from the snapshot and the log. The cache can be opened`,
    ...(deadLetters === 0 ? [] : [`Refused by the database: ${countText(deadLetters, 'change')}, now dead letters`]),
    `Not known, because the log begins at position ${oldest} and the database was at ${from}: changes between them of keys that were not in memory when the snapshot was taken${since}, and that have not changed since; deletes between them`,
    ...(hasCounters ? ['Counters have the value that the cache saw: what others added to them since is lost'] : []),
    ...(hasHistory ? ['The table of history has no rows of what it lacked'] : []),
  ];
}
