/**
 * `cairn log inspect | verify | repair`: looks at a request log, checks it, and makes a damaged one usable again. Works on
 * the files alone, without the native addon; only `repair` needs that nobody has the log open.
 */
import { randomBytes } from 'node:crypto';
import { Command, InvalidArgumentError } from 'commander';
import {
  describeBatches,
  describeProblems,
  describeRepair,
  describeSurvey,
  repair,
  type Survey,
  survey,
} from '../log/index.ts';

/** Where a command's lines go, and its exit code. */
export interface LogCommandOutput {
  print(line: string): void;
  printError(line: string): void;
  setExitCode(code: number): void;
}

const console_: LogCommandOutput = {
  print: (line) => console.log(line),
  printError: (line) => console.error(line),
  setExitCode: (code) => {
    process.exitCode = code;
  },
};

interface InspectFlags {
  batches?: boolean;
  records?: boolean;
  from?: bigint;
}

/** Makes the subcommand. Exit codes: 0, sound; 1, damaged, or it failed. */
export function logCommand(output: LogCommandOutput = console_): Command {
  const printAll = (lines: Iterable<string>): void => {
    for (const line of lines) output.print(line);
  };
  const action = (name: string, run: () => number): void => {
    try {
      output.setExitCode(run());
    } catch (error) {
      if (!(error instanceof Error) || !('code' in error)) throw error;
      output.printError(`cairn log ${name}: ${error.message}`);
      output.setExitCode(1);
    }
  };
  const command = new Command('log').description('look at a request log, check it, repair it');
  command
    .command('inspect')
    .description('say what is in a log; values are never printed')
    .argument('<directory>', 'the directory with the segments')
    .option('--batches', 'every batch too')
    .option('--records', 'every batch and every record too')
    .option('--from <position>', 'only what ends behind this position', parsePosition)
    .action((directory: string, { batches, records, from = 0n }: InspectFlags) => {
      action('inspect', () => {
        const found = survey(directory, { isDeep: false });
        printAll(describeSurvey(found));
        if (batches || records) {
          output.print('');
          printAll(describeBatches(found, { from, withRecords: records === true }));
        }
        output.print('');
        printAll(describeProblems(found));
        return exitCode(found);
      });
    });
  command
    .command('verify')
    .description('read every byte of a log and of its snapshots, and say what is damaged')
    .argument('<directory>', 'the directory with the segments')
    .action((directory: string) => {
      action('verify', () => {
        const found = survey(directory, { isDeep: true });
        printAll(describeSurvey(found));
        output.print('');
        printAll(describeProblems(found));
        return exitCode(found);
      });
    });
  command
    .command('repair')
    .description('make a damaged log usable again: keeps everything that is sound, and the old files in a folder')
    .argument('<directory>', 'the directory with the segments')
    .option('--dry-run', 'only say what would be done')
    .action((directory: string, { dryRun = false }: { dryRun?: boolean }) => {
      action('repair', () => {
        const random = (): bigint => randomBytes(8).readBigUInt64LE(0);
        const repaired = repair(directory, { isDryRun: dryRun, random });
        printAll(describeRepair(repaired));
        return dryRun ? exitCode(repaired.before) : exitCode(repaired.after);
      });
    });
  return command;
}

function exitCode({ problems }: Survey): number {
  return problems.some(({ kind }) => kind !== 'note') ? 1 : 0;
}

function parsePosition(text: string): bigint {
  if (!/^\d{1,19}$/.test(text)) throw new InvalidArgumentError('Expected a position, a whole number.');
  return BigInt(text);
}
