/**
 * `cairn dead-letters list | drop`: the changes that a database has refused for good. Asks the database itself, so no
 * cache has to be open.
 */
import { Command, InvalidArgumentError } from 'commander';
import type { KeptDeadLetter } from '../backend/index.ts';
import { keyText, reasonOf } from '../errors.ts';
import { countText } from './serve-data.ts';

/** Letters of one question. */
const PAGE = 100;

/** Makes the subcommand. */
export function deadLettersCommand(print: (line: string) => void = console.log): Command {
  const command = new Command('dead-letters')
    .description('list or drop the changes that the database behind a cache has refused')
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
  return command;
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
  const later = isSuperseded ? '; a later change of the key is written' : '';
  return `${id}  ${new Date(addedWallMs).toISOString()}  ${change.kind} ${keyText(change.key)}: ${error}${code}${later}`;
}

function parseId(text: string, before: readonly bigint[]): readonly bigint[] {
  if (!/^\d{1,19}$/.test(text)) throw new InvalidArgumentError('Expected the id of a dead letter, a whole number.');
  return [...before, BigInt(text)];
}
