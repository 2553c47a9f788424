/**
 * The rules under which a log was written, kept in its directory: `store-rules.json`. A cache that is opened with other
 * rules may have changes in its log that the database was to get by a rule which is not there any more. They would go
 * to another table, or nowhere. So such an opening is refused, with the name of the rule.
 *
 * The first opening with a database writes the file, also without rules, and each one that changes them, before the
 * first change under them. What a directory without the file has was never to reach a database by a rule.
 */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { CairnError, reasonOf, show } from '../errors.ts';
import { earlier, type Files, LogReader, nodeFiles, type Position } from '../log/index.ts';
import { RecordKind, RecordReader } from '../request/record.ts';
import { type Rule, RuleSet, storeOf } from '../rules/index.ts';
import type { LogFiles } from '../scribe/index.ts';

const FILE = 'store-rules.json';
const FORMAT = 1;

export interface KeptRulesOptions {
  /** Of the log. */
  readonly files: Pick<LogFiles, 'directory' | 'progress'>;
  readonly rules: readonly Rule[];
  /** To the name of each database: everything of it in the log before this is there. */
  readonly confirmed: ReadonlyMap<string, Position>;
}

/**
 * Keeps the rules for the next opening, if no unwritten record is against that (checkRules). Returns what puts back the
 * rules of before.
 */
export function keepRules(options: KeptRulesOptions): () => void {
  const { rules, files } = options;
  const path = join(files.directory, FILE);
  const text = textOf(path);
  // Nothing is written then: a cache opens on a full disk too.
  if (!checkRules(options)) return () => {};
  write(path, `${JSON.stringify({ format: FORMAT, rules }, undefined, 2)}\n`, nodeFiles);
  return () => {
    if (text !== undefined) write(path, text, nodeFiles);
    else remove(path, nodeFiles);
  };
}

/**
 * Whether these are other rules than those that are kept. Reads the unwritten records of the log if they are, and
 * throws `ERR_STORE_REFUSED` if the rule of one is gone.
 */
export function checkRules({ files, rules, confirmed }: KeptRulesOptions): boolean {
  const { directory } = files;
  const kept = readKeptRules(directory);
  if (JSON.stringify(kept) === JSON.stringify(rules)) return false;
  if (kept === undefined) return true;
  const [before, after] = [new RuleSet(kept), new RuleSet(rules)];
  for (const [key, position] of keysFrom(new LogReader(files), [...confirmed.values()].reduce(earlier))) {
    const rule = before.of(key);
    // Of a database that is not there any more, every record that is left.
    if (position < (confirmed.get(storeOf(rule)) ?? 0n)) continue;
    const target = targetOf(rule);
    const next = after.of(key);
    const isLost = target !== targetOf(next) || (rule.history === true && !next.history);
    if (target !== undefined && isLost) throw refused(directory, rule, kept.includes(rule));
  }
  return true;
}

/** The rules under which a log was written; undefined: it has none that are known. Throws `ERR_STORE_REFUSED`. */
export function readKeptRules(directory: string): readonly Rule[] | undefined {
  return read(join(directory, FILE));
}

function* keysFrom(reader: LogReader, from: Position): Generator<[Buffer, Position]> {
  for (const { records, position } of reader.entries(from)) {
    const record = new RecordReader(records);
    while (record.next()) {
      if (record.kind !== RecordKind.clear && record.kind !== RecordKind.clearAt) yield [record.key, position];
    }
  }
}

/** Where changes go by a rule, as text that is equal for the same place; undefined: nowhere. */
function targetOf(rule: Rule): string | undefined {
  const { prefix, skip, own } = rule;
  if (skip) return undefined;
  // The columns of values may change: whether an unwritten value fits is found when it is written.
  return JSON.stringify([storeOf(rule), ...(own === undefined ? [] : [own.table, own.key, prefix])]);
}

function refused(directory: string, { prefix }: Rule, isGiven: boolean): CairnError {
  const name = isGiven ? `the rule for the prefix ${show(prefix)}` : 'no rule';
  return new CairnError(
    'ERR_STORE_REFUSED',
    `The log in ${directory} has changes under ${name} that the database may not have, and the rules that are given do not send them to the same place. Open the cache with the earlier rules, which are in ${FILE} there, call drain(), and change the rules then`,
  );
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function read(path: string): Rule[] | undefined {
  const text = textOf(path);
  if (text === undefined) return undefined;
  try {
    const { format, rules } = JSON.parse(text) as { format: number; rules: Rule[] };
    if (format !== FORMAT) throw new Error(`it has format ${format}, and this version knows ${FORMAT}`);
    return rules;
  } catch (cause) {
    throw new CairnError('ERR_STORE_REFUSED', `${path} cannot be read: ${reasonOf(cause)}`, { cause });
  }
}

// A crash leaves the file as it was, or the new one.
function write(path: string, text: string, files: Files): void {
  const fresh = `${path}.new`;
  const file = files.open(fresh, 'create');
  try {
    file.write([Buffer.from(text)], 0);
    file.sync();
  } finally {
    file.close();
  }
  files.rename(fresh, path);
  files.syncDirectory(dirname(path));
}

function remove(path: string, files: Files): void {
  files.remove(path);
  files.syncDirectory(dirname(path));
}
