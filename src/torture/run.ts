/** Campaigns one after another, each on a new directory and a database that is empty, until the time is over. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WriteBackCampaign, type WriteBackOptions, type WriteBackResult } from './campaign.ts';
import type { MakeDatabase } from './database.ts';
import { Random } from './random.ts';
import { sum, type Totals } from './totals.ts';

export interface RunOptions extends Pick<WriteBackOptions, 'serverFile' | 'backMs' | 'peaceMs' | 'signal'> {
  readonly seed: number;
  readonly budgetMs: number;
  /** Lives of the server, in all and in one campaign, at most. */
  readonly lives: number;
  readonly livesPerCampaign: number;
  readonly make: MakeDatabase;
  /** An empty folder for the directories of the cache; it is made if it is missing. Default: a temporary one. */
  readonly folder?: string | undefined;
  /** Keeps databases and folders even if nothing is wrong. */
  readonly keeps?: boolean | undefined;
  readonly onDatabase?: ((name: string) => void) | undefined;
  readonly onLife?: ((line: string, soFar: Totals) => void) | undefined;
  readonly onCampaign?: ((end: CampaignEnd) => void) | undefined;
}

export interface CampaignEnd {
  readonly seed: number;
  readonly result: WriteBackResult;
  /** It did not come to its end. */
  readonly error?: Error;
  /** What was kept: the name of the database, and the folder. */
  readonly kept: readonly string[];
}

/** Failed campaigns after which nothing more is tried. */
const FAILURES_MAX = 5;

export async function runCampaigns(options: RunOptions): Promise<Totals> {
  const { lives, livesPerCampaign, make, signal, onDatabase, onLife, onCampaign, keeps = false } = options;
  const random = new Random(options.seed);
  const endMs = performance.now() + options.budgetMs;
  const results: WriteBackResult[] = [];
  let failures = 0;
  let left = lives;
  const isOver = (): boolean => left <= 0 || performance.now() >= endMs || failures > FAILURES_MAX;
  while (!isOver()) {
    signal?.throwIfAborted();
    const seed = random.bits();
    const folder = folderFor(options.folder);
    const database = await make().catch((error: unknown) => {
      rmSync(folder, { recursive: true, force: true });
      throw error;
    });
    onDatabase?.(database.name);
    const campaign = new WriteBackCampaign({
      ...options,
      ...{ seed, folder, database },
      rounds: Math.min(livesPerCampaign, left),
      budgetMs: endMs - performance.now(),
      onRound: (line, soFar) => onLife?.(line, sum([...results, soFar], failures)),
    });
    const { result } = campaign;
    let end: Omit<CampaignEnd, 'kept'> = { seed, result };
    try {
      await campaign.run();
      if (database.level === 'idempotent') result.repeated = result.duplicated.splice(0).length;
    } catch (error) {
      signal?.throwIfAborted();
      failures++;
      end = { seed, result, error: error as Error };
    } finally {
      results.push(campaign.result);
      left -= result.rounds;
      const isRight = end.error === undefined && wrongIn(result) === 0;
      const isKept = keeps || !(isRight || signal?.aborted);
      await database.end(isKept);
      if (!isKept) rmSync(folder, { recursive: true, force: true });
      if (!signal?.aborted) onCampaign?.({ ...end, kept: isKept ? [database.name, folder] : [] });
    }
  }
  return sum(results, failures);
}

/** How many violations a campaign has found. */
export function wrongIn({ lost, stale, duplicated, foreign }: WriteBackResult): number {
  return lost.length + stale.length + duplicated.length + foreign.length;
}

/** Throws if the folder has anything in it. */
export function checkFolder(folder: string): void {
  if (existsSync(folder) && readdirSync(folder).length > 0) throw new Error(`${folder} is not empty`);
}

function folderFor(given: string | undefined): string {
  if (given === undefined) return mkdtempSync(join(tmpdir(), 'cairn-torture-'));
  mkdirSync(given, { recursive: true });
  return mkdtempSync(join(given, 'campaign-'));
}
