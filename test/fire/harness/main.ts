// `npm run torture -- kill [--rounds N] [--seed S] ...`: the long forms of the tests in test/fire/.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { TortureDatabase } from '../../../src/torture/database.ts';
import { lineOf, runCampaigns, wrongIn } from '../../../src/torture/index.ts';
import { checkHistory } from '../../support/history-check.ts';
import { HistoryWorld } from '../../support/history-random.ts';
import { Random } from '../../support/random.ts';
import { Campaign, type CampaignResult } from './campaign.ts';
import { CrashCampaign } from './crash/crash-campaign.ts';
import { effects } from './effects/main.ts';
import { tortureServer } from './target.ts';
import { wholeNumber } from './whole-number.ts';
import { LmdbDatabase, postgresDatabase, standbyDatabase } from './write-back/database.ts';
import { SeveralStores } from './write-back/several.ts';

const USAGE = `npm run torture -- kill [options]      kill -9 under load, over and over, and judge what clients saw
    --rounds N      kills (default 200)
    --campaign N    kills on one directory before the next one begins (default 15)
    --seed S        of what is drawn (default: drawn)
    --answers N     answers in one life, at most (default 3000)
    --target T      serve: the command; api: a program that uses the API; both (default)
    --connections N connections over TCP (default 6)
    --evict         entries do not fit into memory, in every other campaign (default: one in four)
    --ack LEVEL     what answers wait for: logged (default), or memory: then only versions are judged
    --clock         the machine's clock jumps by an hour, in every campaign (Linux, with a C compiler)
    --small-disk    the directory is on a small tmpfs, often full (for root)
    --no-log        in memory only: shows that losses are found
    --keep          keep the folders of campaigns in which nothing was wrong
    --verbose       a line for each life
npm run torture -- crash [options]     every disk that a power cut may leave at each file call of a process is opened
    --seconds N     how long (default 60)
    --per-moment N  disks tried at one moment (default 4096: all subsets of up to 12 unsynced steps)
    --seed S
    --leave-out S   file-sync or directory-sync: shows that its absence is found
    --verbose       a line for each trace
npm run torture -- write-back [options]   kill -9 of a server that writes its log to a database
    --minutes N     how long (default 1)
    --store S       lmdb (default); postgres: a server that is stopped, started and cut off meanwhile; postgres-standby:
                    with --db-failover the primary is killed and an asynchronous standby promoted; lmdb+lmdb,
                    postgres+lmdb: two behind one cache, each with its keys, the second stopped at times by itself
    --rounds N      lives of the server, at most (default: as many as the time allows)
    --campaign N    lives on one directory before the next one begins (default 15)
    --seed S        of what is drawn (default: drawn)
    --db-failover   the database goes back to earlier states under load, rows and cursors together
    --back SECONDS  by at most this time (default 2)
    --mistake M     shows that it is found: the database forgets changes (lmdb), repeats them (lmdb), lets a writer
                    write from which another has taken over (unfenced, lmdb), or goes back without its cursors
                    (rows-alone), or gets keys of another rule (misplaced, with two of them)
    --verbose       a line for each life
npm run torture -- effects [options]   kill -9 of a server that counts in rows in which another writer counts too
    --effects N     increments, and writes that are kept as history (default 100000)
    --sync S        always (default), or a time such as 10ms
    --store S       postgres (default), or lmdb: without another writer, and without connections to cut
    --lanes N       lanes that write at a time: 1, 2, 4, 8 or 16 (default 1)
    --life SECONDS  the longest life until a kill (default 4)
    --seed S        of what is drawn (default: drawn)
    --mistake M     shows that it is found: the database forgets effects, or repeats them (postgres)
    --verbose       a line for each life
npm run torture -- history [options]   random histories, right and wrong, for the checker itself
    --rounds N      histories of each kind (default 500)
    --seed S`;

export async function main(args: readonly string[]): Promise<number> {
  const [what, ...rest] = args;
  if (what === 'kill') return kill(rest);
  if (what === 'crash') return crash(rest);
  if (what === 'write-back') return writeBack(rest);
  if (what === 'effects') return effects(rest);
  if (what === 'history') return histories(rest);
  console.log(USAGE);
  return what === undefined || what === 'help' || what === '--help' ? 0 : 2;
}

async function kill(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: 'string', default: '200' },
      campaign: { type: 'string', default: '15' },
      seed: { type: 'string' },
      answers: { type: 'string', default: '3000' },
      target: { type: 'string', default: 'both' },
      connections: { type: 'string', default: '6' },
      evict: { type: 'boolean', default: false },
      ack: { type: 'string', default: 'logged' },
      'small-disk': { type: 'boolean', default: false },
      clock: { type: 'boolean', default: false },
      'no-log': { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      verbose: { type: 'boolean', default: false },
    },
  });
  const rounds = wholeNumber('rounds', values.rounds);
  const perCampaign = wholeNumber('campaign', values.campaign);
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 32) : wholeNumber('seed', values.seed);
  if (!['serve', 'api', 'both'].includes(values.target)) throw new Error(`Expected --target serve, api or both`);
  const targets = values.target === 'both' ? (['serve', 'api'] as const) : [values.target as 'serve' | 'api'];
  const random = new Random(seed);
  console.log(`seed ${seed}`);
  const total = { rounds: 0, kills: 0, stops: 0, operations: 0, writes: 0, acknowledged: 0, unknown: 0, refused: 0 };
  const found = new Map<string, number>();
  let failures = 0;
  let begun = 0;
  for (let campaign = 0; begun < rounds; campaign++) {
    const own = random.bits();
    const folder = mkdtempSync(join(tmpdir(), 'cairn-torture-'));
    const count = Math.min(perCampaign, rounds - begun);
    begun += count;
    try {
      const result = await new Campaign({
        seed: own,
        rounds: count,
        folder,
        log: values['no-log'] ? 'none' : 'on',
        evicts: campaign % (values.evict ? 2 : 4) === 3 % (values.evict ? 2 : 4),
        ack: values.ack === 'memory' ? 'memory' : 'logged',
        smallDisk: values['small-disk'],
        clockJumps: values.clock,
        answersMax: wholeNumber('answers', values.answers),
        connections: wholeNumber('connections', values.connections),
        targets,
        onRound: (line) => void (values.verbose && console.log(line)),
      }).run();
      for (const name of Object.keys(total) as (keyof typeof total)[]) total[name] += result[name];
      for (const { kind } of result.violations) found.set(kind, (found.get(kind) ?? 0) + 1);
      if (result.undecided.length > 0) found.set('undecided', (found.get('undecided') ?? 0) + result.undecided.length);
      report(campaign, own, result);
      if (result.kept === undefined && !values.keep) rmSync(folder, { recursive: true });
    } catch (error) {
      // A process that died by itself, or does not answer: the others may still tell more.
      failures++;
      console.log(`campaign ${campaign}, seed ${own}, FAILED: ${(error as Error).message}`);
    }
  }
  const wrong = ['lost', 'stale'].map((kind) => `${found.get(kind) ?? 0} ${kind}`);
  const others = [...found].filter(([kind]) => kind !== 'lost' && kind !== 'stale');
  const figures = Object.entries(total).map(([name, value]) => `${value.toLocaleString('en')} ${name}`);
  console.log([...figures, ...wrong, ...others.map(([kind, n]) => `${n} ${kind}`), `${failures} failed`].join(', '));
  return found.size === 0 && failures === 0 ? 0 : 1;
}

function crash(args: readonly string[]): number {
  const { values } = parseArgs({
    args: [...args],
    options: {
      seconds: { type: 'string', default: '60' },
      'per-moment': { type: 'string', default: '4096' },
      seed: { type: 'string' },
      'leave-out': { type: 'string' },
      verbose: { type: 'boolean', default: false },
    },
  });
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 32) : wholeNumber('seed', values.seed);
  const leavesOut = values['leave-out'];
  if (leavesOut !== undefined && leavesOut !== 'file-sync' && leavesOut !== 'directory-sync') {
    throw new Error(`Expected --leave-out to be file-sync or directory-sync, got "${leavesOut}"`);
  }
  console.log(`seed ${seed}`);
  const folder = mkdtempSync(join(tmpdir(), 'cairn-crash-'));
  const { traces, moments, states, distinct, exhausted, wrong } = new CrashCampaign({
    seed,
    budgetMs: 1000 * wholeNumber('seconds', values.seconds),
    statesPerMoment: wholeNumber('per-moment', values['per-moment']),
    folder,
    leavesOut,
    onTrace: (line) => void (values.verbose && console.log(line)),
  }).run();
  for (const what of wrong) console.log(`WRONG: ${what}`);
  const figures = { traces, moments, 'moments with all subsets': exhausted, states, 'different states': distinct };
  const words = Object.entries(figures).map(([name, count]) => `${count.toLocaleString('en')} ${name}`);
  console.log([...words, `${wrong.length} wrong`].join(', '));
  if (wrong.length === 0) rmSync(folder, { recursive: true });
  else console.log(`kept: ${folder}`);
  return wrong.length === 0 ? 0 : 1;
}

const DATABASES: Readonly<Record<string, (mistake: string) => Promise<TortureDatabase>>> = {
  lmdb: async (mistake) => new LmdbDatabase(mistake),
  postgres: postgresDatabase,
  'postgres-standby': standbyDatabase,
  'lmdb+lmdb': async (mistake) => SeveralStores.make(new LmdbDatabase(mistake), mistake),
  'postgres+lmdb': async (mistake) => SeveralStores.make(await postgresDatabase(mistake), mistake),
};

async function writeBack(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      minutes: { type: 'string', default: '1' },
      rounds: { type: 'string', default: '1000000' },
      campaign: { type: 'string', default: '15' },
      seed: { type: 'string' },
      mistake: { type: 'string', default: '' },
      'db-failover': { type: 'boolean', default: false },
      back: { type: 'string', default: '2' },
      store: { type: 'string', default: 'lmdb' },
      verbose: { type: 'boolean', default: false },
    },
  });
  if (!['', 'forgets', 'repeats', 'unfenced', 'rows-alone', 'misplaced'].includes(values.mistake)) {
    throw new Error('Expected --mistake forgets, repeats, unfenced, rows-alone or misplaced');
  }
  const backMs = values['db-failover'] ? 1000 * wholeNumber('back', values.back) : 0;
  if (!(values.store in DATABASES)) throw new Error(`Expected --store to be one of ${Object.keys(DATABASES)}`);
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 32) : wholeNumber('seed', values.seed);
  console.log(`seed ${seed}`);
  let campaigns = 0;
  const totals = await runCampaigns({
    seed,
    make: async () => DATABASES[values.store]!(values.mistake),
    budgetMs: 60_000 * wholeNumber('minutes', values.minutes),
    lives: wholeNumber('rounds', values.rounds),
    livesPerCampaign: wholeNumber('campaign', values.campaign),
    // What is lost does not come by waiting.
    peaceMs: values.mistake === '' ? 60_000 : 10_000,
    backMs,
    serverFile: tortureServer,
    onLife: (line) => void (values.verbose && console.log(line)),
    onCampaign: ({ seed: own, result, error }) => {
      const name = `campaign ${campaigns++}, seed ${own}`;
      if (error !== undefined) console.log(`${name}, FAILED: ${error.message}`);
      const wrong = wrongIn(result);
      const found = wrong === 0 ? 'nothing wrong' : `${wrong} WRONG`;
      console.log(`${name}: ${result.rounds} lives, ${result.acknowledged} acknowledged: ${found}`);
      const { lost, stale, duplicated, foreign } = result;
      for (const each of [...lost, ...stale, ...duplicated, ...foreign].slice(0, 5)) console.log(each);
    },
  });
  console.log(lineOf(totals));
  return totals.isRight ? 0 : 1;
}

function report(campaign: number, seed: number, result: CampaignResult): void {
  const { rounds, operations, acknowledged, unknown, refused, violations, undecided, kept } = result;
  const wrong = violations.length === 0 && undecided.length === 0 ? 'nothing wrong' : `${violations.length} WRONG`;
  console.log(
    `campaign ${campaign}, seed ${seed}: ${rounds} kills, ${operations} operations, ${acknowledged} acknowledged, ` +
      `${unknown} unknown, ${refused} refused: ${wrong}`,
  );
  for (const { kind, message } of violations.slice(0, 5)) console.log(`${kind}: ${message}`);
  for (const each of undecided.slice(0, 2)) console.log(`undecided: ${each}`);
  if (kept !== undefined) console.log(`kept: ${kept}`);
}

function histories(args: readonly string[]): number {
  const { values } = parseArgs({
    args: [...args],
    options: { rounds: { type: 'string', default: '500' }, seed: { type: 'string' } },
  });
  const rounds = wholeNumber('rounds', values.rounds);
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 32) : wholeNumber('seed', values.seed);
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  let wrong = 0;
  let undecided = 0;
  let operations = 0;
  const start = performance.now();
  for (let i = 0; i < rounds; i++) {
    const shape = {
      operations: 200 + random.below(3000),
      keys: 1 + random.below(30),
      sessions: 2 + random.below(8),
      depth: 1 + random.below(4),
      crashEvery: random.pick([0, 100, 1000]),
      evicts: random.below(3) === 0,
    };
    const check = { misses: shape.evicts ? 'allowed' : 'explained' } as const;
    const right = checkHistory(new HistoryWorld(random, shape).run(), check);
    operations += right.operations;
    undecided += right.undecided.length;
    if (right.violations.length > 0) {
      wrong++;
      console.log(`a right one is called wrong: ${right.violations[0]!.message}`);
    }
    for (const mistake of ['lost', 'stale', 'taken-back', 'resurrected', 'version-repeated', 'version-back'] as const) {
      const world = new HistoryWorld(random, { ...shape, operations: 500, keys: 10, mistake });
      if (checkHistory(world.run(), check).violations.length > 0) continue;
      wrong++;
      console.log(`${mistake} is not found in ${JSON.stringify(shape)}`);
    }
  }
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`${rounds * 7} histories, ${operations} operations in the right ones, ${seconds} s`);
  console.log(`${wrong} misjudged, ${undecided} keys undecided`);
  return wrong === 0 ? 0 : 1;
}
