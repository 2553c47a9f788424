/**
 * `cairn torture`: kills servers that write to a database of the user's, over and over, and judges what is in the cache
 * and in the database afterwards. It works in tables that it makes, and removes them at the end.
 */
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError } from 'commander';
import { reasonOf } from '../errors.ts';
import type { CampaignEnd, Totals } from '../torture/index.ts';

/** Lives of one campaign: about two and a half minutes, with a comparison of all rows at their end. */
const LIVES_PER_CAMPAIGN = 60;
/** Without a terminal, a line of progress comes this often. */
const PROGRESS_MS = 30_000;
/** Violations of a campaign that are shown. */
const SHOWN_MAX = 5;

const WRONG = 1;
const INTERRUPTED = 130;

const NOTES = `
It kills the server with kill -9 every few seconds under load, cuts its connections to the database, lets servers go on
from which another has taken over, and with --db-failover has the database go back to an earlier state. After each kill
every key must have its last acknowledged value; at the end so must every row, and no change may have had its effect twice.

It works in tables that it makes and removes: a schema in PostgreSQL, a database in MariaDB and MySQL (or tables with a
prefix), a file of SQLite or LMDB. All their names begin with cairn_torture_. The database of a module has to be empty.

Exit codes: 0, nothing was wrong; 1, something was, or it could not run; 130, it was interrupted.

Examples:
  npx cairn-cache torture --store lmdb:
  PGPASSWORD=... npx cairn-cache torture --store postgres://user@host/name --minutes 10 --db-failover
  npx cairn-cache torture --store mariadb://user@localhost/name --minutes 10
    --stop-command 'systemctl stop mariadb' --start-command 'systemctl start mariadb'`;

interface Flags {
  store?: string;
  minutes: number;
  lives: number;
  dbFailover: boolean;
  back: number;
  peace: number;
  seed?: number;
  data?: string;
  stopCommand?: string;
  startCommand?: string;
  keep: boolean;
  verbose: boolean;
}

/** Makes the subcommand. */
export function tortureCommand(): Command {
  return new Command('torture')
    .description('kill servers that write to a database, over and over, and count what that loses')
    .helpOption('-h, --help', 'print this help and exit')
    .option('--store <database>', 'the database, as --store of serve takes it (default: CAIRN_STORE)')
    .option('--minutes <num>', 'how long it kills (default: 1)', numberOf, 1)
    .option('--lives <num>', 'servers that are started, at most (default: no limit)', wholeOf, Number.MAX_SAFE_INTEGER)
    .option('--db-failover', 'the database goes back to earlier states under load, rows and cursors together', false)
    .option('--back <seconds>', 'by at most this time (default: 30)', numberOf, 30)
    .option(
      '--peace <seconds>',
      'the database may take this long at the end to get everything (default: 120)',
      numberOf,
      120,
    )
    .option('--seed <num>', 'of what is drawn (default: drawn)', wholeOf)
    .option('--data <dir>', 'an empty folder for the logs (default: a temporary one)')
    .option('--stop-command <command>', 'stops the database, at random moments')
    .option('--start-command <command>', 'starts it again, and returns when it has begun to start')
    .option('--keep', 'keep tables and folders (default: only if something is wrong)', false)
    .option('--verbose', 'a line for each life of the server', false)
    .addHelpText('after', NOTES)
    .configureHelp({ showGlobalOptions: false, optionDescription: ({ description }) => description })
    .action(async (flags: Flags) => {
      const interruption = new AbortController();
      const interrupt = (): void => {
        if (interruption.signal.aborted) process.exit(INTERRUPTED);
        interruption.abort(new Error('interrupted'));
      };
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, interrupt);
      try {
        process.exitCode = await torture(flags, interruption.signal);
      } catch (error) {
        console.error(`cairn torture: ${reasonOf(error)}`);
        process.exitCode = interruption.signal.aborted ? INTERRUPTED : WRONG;
      } finally {
        for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.off(signal, interrupt);
      }
    });
}

async function torture(flags: Flags, signal: AbortSignal): Promise<number> {
  const { store = process.env['CAIRN_STORE'], stopCommand, startCommand, minutes, lives, keep, verbose, data } = flags;
  if (store === undefined || store === '') throw new Error('Expected --store to name a database');
  if ((stopCommand === undefined) !== (startCommand === undefined)) {
    throw new Error('Expected --stop-command and --start-command together');
  }
  const { checkFolder, lineOf, runCampaigns, stoppedBy, storesOf, tableOf } = await import('../torture/index.ts');
  if (data !== undefined) checkFolder(data);
  const faults = stopCommand === undefined ? [] : [stoppedBy(stopCommand, startCommand!)];
  const { make, isModule } = storesOf(store, faults);
  if (isModule && flags.dbFailover) {
    throw new Error('Expected no --db-failover for a module: its tables are not known, and cannot be put back');
  }
  const { seed = Math.floor(Math.random() * 2 ** 32) } = flags;
  const time = minutes === 1 ? '1 minute' : `${minutes} minutes`;
  console.log(`seed ${seed}, ${time}${flags.dbFailover ? `, the database goes back by up to ${flags.back} s` : ''}`);
  const progress = new Progress();
  const totals = await runCampaigns({
    seed,
    ...{ make, lives, signal, folder: data, keeps: keep },
    budgetMs: 60_000 * minutes,
    livesPerCampaign: isModule ? lives : LIVES_PER_CAMPAIGN,
    backMs: flags.dbFailover ? 1000 * flags.back : 0,
    peaceMs: 1000 * flags.peace,
    serverFile: fileURLToPath(new URL('./torture-server.js', import.meta.url)),
    onDatabase: (name) => progress.say(`In ${name}`),
    onLife: (line, soFar) => {
      if (verbose) progress.say(line);
      progress.show(lineOf(short(soFar)));
    },
    onCampaign: (end) => {
      for (const line of describe(end)) progress.say(line);
    },
  });
  progress.end();
  for (const line of tableOf(totals)) console.log(line);
  return totals.isRight ? 0 : WRONG;
}

/** What fits into a line of a terminal. */
function short(totals: Totals): Totals {
  const shown = ['lives', 'kills', 'acknowledged', 'lost', 'stale', 'duplicated'];
  return { ...totals, figures: totals.figures.filter(({ name }) => shown.includes(name)) };
}

function describe({ seed, result, error, kept }: CampaignEnd): string[] {
  const where = kept.length === 0 ? [] : [`Kept: ${kept.join(' and ')}`];
  const failure = error === undefined ? [] : [`The campaign of seed ${seed} failed: ${error.message}`];
  const named = Object.entries({
    lost: result.lost,
    stale: result.stale,
    duplicated: result.duplicated,
    'by a zombie': result.foreign,
  });
  return [
    ...failure,
    ...named.flatMap(([name, found]) => found.slice(0, SHOWN_MAX).map((each) => `${name}: ${each}`)),
    ...where,
  ];
}

/** One line that changes, in a terminal; elsewhere a line now and then. */
class Progress {
  readonly #isTerminal = process.stdout.isTTY === true;
  readonly #startMs = performance.now();
  #shownMs = performance.now();
  #isShown = false;

  show(text: string): void {
    const nowMs = performance.now();
    const line = `${timeText(nowMs - this.#startMs)}  ${text}`;
    if (this.#isTerminal) {
      process.stdout.write(`\r${line.slice(0, (process.stdout.columns ?? 80) - 1)}\x1b[K`);
      this.#isShown = true;
    } else if (nowMs - this.#shownMs >= PROGRESS_MS) {
      this.#shownMs = nowMs;
      console.log(line);
    }
  }

  say(line: string): void {
    this.end();
    console.log(line);
  }

  end(): void {
    if (this.#isShown) process.stdout.write('\r\x1b[K');
    this.#isShown = false;
  }
}

function timeText(ms: number): string {
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}

function numberOf(text: string): number {
  const number = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || number === 0) throw new InvalidArgumentError('Expected a number above 0.');
  return number;
}

function wholeOf(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw new InvalidArgumentError('Expected a whole number.');
  return Number(text);
}
