// `npm run torture -- effects [--effects N] [--sync always|10ms] [--store postgres|lmdb] [--lanes N] ...`

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { cliFile } from '../target.ts';
import { wholeNumber } from '../whole-number.ts';
import { EffectsCampaign } from './campaign.ts';
import { type EffectsDatabase, LmdbEffects, type Mistake, PostgresEffects } from './database.ts';

/** Resolves to the exit code. */
export async function effects(args: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      effects: { type: 'string', default: '100000' },
      sync: { type: 'string', default: 'always' },
      store: { type: 'string', default: 'postgres' },
      lanes: { type: 'string', default: '1' },
      life: { type: 'string', default: '4' },
      seed: { type: 'string' },
      mistake: { type: 'string', default: '' },
      verbose: { type: 'boolean', default: false },
    },
  });
  if (!['lmdb', 'postgres'].includes(values.store)) throw new Error('Expected --store lmdb or postgres');
  if (!['', 'forgets', 'repeats'].includes(values.mistake)) throw new Error('Expected --mistake forgets or repeats');
  const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 32) : wholeNumber('seed', values.seed);
  console.log(`seed ${seed}`);
  const mistake = values.mistake as Mistake;
  if (mistake !== '' && values.store !== 'postgres') throw new Error('--mistake needs --store postgres');
  const folder = mkdtempSync(join(tmpdir(), 'cairn-torture-'));
  const start = performance.now();
  const database: EffectsDatabase =
    values.store === 'postgres' ? await PostgresEffects.start(mistake) : new LmdbEffects();
  try {
    const { wrong, ...counts } = await new EffectsCampaign({
      seed,
      effects: wholeNumber('effects', values.effects),
      sync: values.sync,
      lanes: wholeNumber('lanes', values.lanes),
      lifeMsMax: 1000 * wholeNumber('life', values.life),
      // What is lost does not come by waiting.
      peaceMs: mistake === '' ? 60_000 : 10_000,
      folder,
      cliFile,
      database,
      onLife: (line) => void (values.verbose && console.log(line)),
    }).run();
    for (const { what } of wrong.slice(0, 10)) console.log(`WRONG: ${what}`);
    const lost = wrong.reduce((total, each) => total + each.lost, 0);
    const doubled = wrong.reduce((total, each) => total + each.doubled, 0);
    const { effects: count, kills, foreign, ...others } = counts;
    const figures = { effects: count, 'of another writer': foreign, kills, ...others, lost, doubled };
    const words = Object.entries(figures).map(([name, number]) => `${number.toLocaleString('en')} ${name}`);
    console.log(`${words.join(', ')}; ${((performance.now() - start) / 1000).toFixed(0)} s`);
    return wrong.length === 0 ? 0 : 1;
  } finally {
    await database.end();
    rmSync(folder, { recursive: true, force: true });
  }
}
