/**
 * `cairn dead-letters list | drop | retry`: the changes that a database has refused for good. `list` and `drop` ask the
 * database itself, so no cache has to be open. `retry` opens one, because a change goes to the database through the log
 * only.
 */
import { Command, InvalidArgumentError } from 'commander';
import type { KeptDeadLetter } from '../backend/index.ts';
import { keyText, reasonOf } from '../errors.ts';
import { countText } from './serve-data.ts';
import { describeRetried } from './serve-letters.ts';
import { addServeFlags, cacheOptions, type ServeFlags } from './serve-options.ts';

/** Letters of one question. */
const PAGE = 100;

/** Makes the subcommand. */
export function deadLettersCommand(print: (line: string) => void = console.log): Command {
  const command = new Command('dead-letters')
    .description('list, drop or retry the changes that the database behind a cache has refused')
    .helpOption('-h, --help', 'print this help and exit');
  const subcommand = (name: string, description: string): Command =>
    command
      .command(name)
      .description(description)
      .requiredOption('--store <database>', 'the database: what --store of serve, or the option store, is');
  subcommand('list', 'say which changes were refused, and why; values are never printed').action(({ store }) =>
    withLetters(store, async (letters) => {
      let count = 0;
      for (let after = 0n; ; ) {
        const page = await letters.list(PAGE, after);
        for (const letter of page) print(describeLetter(letter));
        count += page.length;
        if (page.length < PAGE) break;
        after = page.at(-1)!.id;
      }
      print(countText(count, 'dead letter'));
    }),
  );
  subcommand('drop', 'remove dead letters: the rows stay as the database has them')
    .argument('<id...>', 'ids, as list prints them', parseId, [])
    .action((ids: readonly bigint[], { store }) =>
      withLetters(store, async (letters) => {
        print(`Dropped ${countText(await letters.drop(ids), 'dead letter')}`);
      }),
    );
  const retry = command
    .command('retry')
    .description(
      'make the changes of dead letters again, with the options of `serve`: no other process may have the directory',
    )
    .argument('[id...]', 'ids, as list prints them; none: all that no later change has superseded', parseId, []);
  retry.option('--name <name>', 'of several databases whose: a name in the option stores', 'default');
  addServeFlags(retry).action((ids: readonly bigint[], { name, ...flags }: ServeFlags) =>
    retryLetters(ids, name as string, flags, print),
  );
  return command;
}

async function retryLetters(
  ids: readonly bigint[],
  store: string,
  flags: ServeFlags,
  print: (line: string) => void,
): Promise<void> {
  const { settingsFor } = await import('./serve.ts');
  const settings = await settingsFor('dead-letters retry', flags);
  try {
    if (settings === undefined) {
      process.exitCode = 1;
      return;
    }
    for (const option of ['data', 'store']) {
      if (typeof settings.get(option)?.value !== 'string') throw new Error(`Expected --${option}: see serve -h`);
    }
    const { Cache } = await import('../index.ts');
    const cache = await Cache.open(cacheOptions(settings, () => {}));
    try {
      const retried = await cache.writeBack.retryDeadLetters(ids.length === 0 ? 'all' : ids, { store });
      for (const line of describeRetried(retried)) print(line);
      if (retried.some(({ outcome }) => outcome !== 'retried')) process.exitCode = 1;
    } finally {
      await cache.close();
    }
  } catch (error) {
    console.error(`cairn dead-letters retry: ${reasonOf(error)}`);
    if ((error as { code?: unknown }).code === 'ERR_LOG_LOCKED') {
      console.error(
        'If that process is `cairn serve`, kill -USR2 has it retry all of them, and print what becomes of each',
      );
    }
    process.exitCode = 1;
  }
}

async function withLetters(
  store: string,
  use: (letters: NonNullable<import('../backend/index.ts').Backend['deadLetters']>) => Promise<void>,
): Promise<void> {
  try {
    const { makeBackend } = await import('../backend/index.ts');
    const backend = await makeBackend(store);
    try {
      await backend.open();
      if (backend.deadLetters === undefined) throw new Error(`${backend.name} keeps no dead letters`);
      await use(backend.deadLetters);
    } finally {
      await backend.close();
    }
  } catch (error) {
    console.error(`cairn dead-letters: ${reasonOf(error)}`);
    process.exitCode = 1;
  }
}

function describeLetter({ id, change, error, errorCode, addedWallMs, isSuperseded }: KeptDeadLetter): string {
  const code = errorCode === undefined ? '' : ` (${errorCode})`;
  const batch = change.atomic === undefined ? '' : '; of an atomic batch';
  const later = isSuperseded ? '; a later change of the key is written' : '';
  return `${id}  ${new Date(addedWallMs).toISOString()}  ${change.kind} ${keyText(change.key)}: ${error}${code}${batch}${later}`;
}

function parseId(text: string, before: readonly bigint[]): readonly bigint[] {
  if (!/^\d{1,19}$/.test(text)) throw new InvalidArgumentError('Expected the id of a dead letter, a whole number.');
  return [...before, BigInt(text)];
}
