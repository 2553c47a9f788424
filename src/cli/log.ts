/**
 * `cairn log inspect | verify | repair | drop-cursor`: looks at a request log, checks it, makes a damaged one usable
 * again, and takes a reader's place out of it.
 *
 * `inspect` only reads, also while a process has the log open, and without the native addon. The others keep other
 * processes out of the directory meanwhile, and are refused while another process has it.
 */
import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { Command, InvalidArgumentError } from 'commander';
import type { LockDirectory, Survey } from '../log/index.ts';

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

const SOUND = 0;
const DAMAGED = 1;
const FAILED = 2;

interface InspectFlags {
  batches?: boolean;
  records?: boolean;
  from?: bigint;
}

/** Makes the subcommand. */
export function logCommand(output: LogCommandOutput = console_): Command {
  const printAll = (lines: Iterable<string>): void => {
    for (const line of lines) output.print(line);
  };
  const action = async (name: string, directory: string, run: () => Promise<number>): Promise<void> => {
    try {
      // Before the lock is taken, which leaves a file in the directory.
      const { hasLog } = await import('../log/index.ts');
      const found = statSync(directory, { throwIfNoEntry: false });
      if (found?.isDirectory() === false) {
        throw Object.assign(new Error(`${directory} is a file: expected the directory of a log`), { code: 'ENOTDIR' });
      }
      if (found !== undefined && hasLog(directory)) output.setExitCode(await run());
      else throw Object.assign(new Error(`There is no log in ${directory}`), { code: 'ENOENT' });
    } catch (error) {
      if (!(error instanceof Error) || !('code' in error)) throw error;
      output.printError(`cairn log ${name}: ${error.message}`);
      output.setExitCode(FAILED);
    }
  };
  const command = new Command('log')
    .description('look at a request log, check it, repair it')
    .helpOption('-h, --help', 'print this help and exit')
    // A command that cannot be understood has not found damage.
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : FAILED))
    .addHelpText(
      'after',
      '\nExit codes: 0, what should be there is sound; 1, it is damaged, or a repair could not save all of it; 2, that cannot\nbe told: there is no log, a process has it open, a newer version wrote it, or a file cannot be read.',
    );
  const subcommand = (name: string, description: string): Command =>
    command
      .command(name)
      .description(description)
      .argument('<directory>', 'the directory of the log: what --data, or the option data, was');

  subcommand('inspect', 'say what is in a log, also while it is in use; values are never printed')
    .option('--batches', 'every batch too')
    .option('--records', 'every batch and every record too')
    .option('--from <position>', 'only what ends behind this position', parsePosition)
    .action((directory: string, { batches, records, from = 0n }: InspectFlags) =>
      action('inspect', directory, async () => {
        const { describeBatches, describeProblems, describeSurvey, survey } = await import('../log/index.ts');
        const found = survey(directory, { isDeep: false });
        printAll(describeSurvey(found));
        if (batches || records) {
          output.print('');
          printAll(describeBatches(found, { from, withRecords: records === true }));
        }
        output.print('');
        printAll(describeProblems(found));
        if (exitCode(found) === SOUND) output.print('Not every byte was read: npx cairn-cache log verify does that.');
        return exitCode(found);
      }),
    );
  subcommand('verify', 'read every byte of a log and of its snapshots, and say what is damaged').action(
    (directory: string) =>
      action('verify', directory, async () => {
        const { describeProblems, describeSurvey, survey } = await import('../log/index.ts');
        const found = await alone(directory, output, () => survey(directory, { isDeep: true }));
        printAll(describeSurvey(found));
        output.print('');
        printAll(describeProblems(found));
        return exitCode(found);
      }),
  );
  subcommand('repair', 'make a damaged log usable again: keeps everything that is sound, and the old files in a folder')
    .option('--dry-run', 'only say what would be done')
    .action((directory: string, { dryRun = false }: { dryRun?: boolean }) =>
      action('repair', directory, async () => {
        const { describeRepair, repair } = await import('../log/index.ts');
        const lockDirectory = await theLock();
        const random = (): bigint => randomBytes(8).readBigUInt64LE(0);
        const repaired = repair(directory, { lockDirectory, isDryRun: dryRun, random });
        printAll(describeRepair(repaired));
        // A repair that has lost something has not made the log what it should be.
        if (repaired.lostRecords + repaired.lostEntries > 0) return DAMAGED;
        return exitCode(dryRun ? repaired.before : repaired.after);
      }),
    );
  subcommand('drop-cursor', 'forget how far a reader of the log is, such as `store`, the database behind the cache')
    .argument('<name>', 'the name of the cursor, as inspect shows it')
    .action((directory: string, name: string) =>
      action('drop-cursor', directory, async () => {
        const { EmbeddedLog, HISTORY_PREFIX } = await import('../log/index.ts');
        const log = EmbeddedLog.open({ directory, lockDirectory: await theLock() });
        try {
          const cursor = log.cursor(name);
          const position = cursor.position();
          if (position === undefined) throw Object.assign(new Error(`There is no cursor ${name}`), { code: 'ENOENT' });
          cursor.drop();
          log.cursor(`${HISTORY_PREFIX}${name}`).drop();
          output.print(`Dropped the cursor ${name}, which was at position ${position} of ${log.end}`);
        } finally {
          log.close();
        }
        return SOUND;
      }),
    );
  return command;
}

async function theLock(): Promise<LockDirectory> {
  const { lockByAddon } = await import('../native/directory-lock.ts');
  return lockByAddon;
}

// Runs an action while no other process has the directory. A directory that this user may not write is read all the
// same.
async function alone<T>(directory: string, output: LogCommandOutput, run: () => T): Promise<T> {
  const lockDirectory = await theLock();
  let lock: ReturnType<LockDirectory> | undefined;
  try {
    lock = lockDirectory(directory);
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error) || error.code !== 'ERR_LOG_IO') throw error;
    output.printError(`cairn log: ${error.message}. What a process writes meanwhile may look damaged`);
  }
  try {
    return run();
  } finally {
    lock?.release();
  }
}

function exitCode({ problems }: Survey): number {
  if (problems.some(({ kind }) => kind === 'newer')) return FAILED;
  return problems.some(({ kind }) => kind === 'damage') ? DAMAGED : SOUND;
}

function parsePosition(text: string): bigint {
  if (!/^\d{1,19}$/.test(text)) throw new InvalidArgumentError('Expected a position, a whole number.');
  return BigInt(text);
}
