// Numbers that C++ and TypeScript both name: codes, words, verbs, flags, states, layouts, limits. Each list stands in
// both languages, by hand, and this test compares them: a name that one side lacks or numbers otherwise is refused.
//
// The sources are read as text, so that a list need not be exported to be compared, and no addon has to be built. The
// comparison of one pair proves itself first: lists that differ are found to differ.
//
// Tables of the documents that say what the table of options says are compared with it, line by line.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { serveFlags } from '../src/cli/serve-options.ts';
import { CACHE_OPTIONS, type Row, SERVE_OPTIONS } from '../src/options.ts';

type Table = ReadonlyMap<string, number>;

const read = (path: string): string => readFileSync(fileURLToPath(new URL(`../${path}`, import.meta.url)), 'utf8');
const plain = (name: string): string => name.replaceAll('_', '').toLowerCase();
const withoutComments = (text: string): string => text.replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*/g, '');

/** A product, shift or sum of whole numbers, in either language; undefined for anything else. */
function evaluate(expression: string): number | undefined {
  const bare = expression
    .replace(/(?:u?int\d+_t|size_t)\s*\{(\w+)\}/g, '$1')
    .replace(/~\s*0\b/, '0xFFFFFFFF')
    .replaceAll('Number.MAX_SAFE_INTEGER', '((1 << 53) - 1)')
    .replace(/'|_(?=\d)|\b(\d+)[un]+\b/g, '$1')
    .replace(/(\w+)\s*<<\s*(\w+)/g, '($1 * 2 ** $2)');
  if (!/^(?:0[xX][\da-fA-F]+|[\d\s()*+-])+$/.test(bare)) return undefined;
  return Number(new Function(`return ${bare}`)());
}

/**
 * The values of a C++ enum, without `prefix` (all have a k). `head`: how it begins, after what is before a `>`.
 * `known`: of names that others are made from.
 */
function cxxEnum(path: string, head: string, prefix = 'k', known: Table = new Map()): Table {
  const text = withoutComments(read(path));
  const start = head.split(' > ').reduce((at, part) => (at < 0 ? at : text.indexOf(part, at)), 0);
  if (start < 0) throw new Error(`${path} has no "${head}"`);
  const body = text.slice(text.indexOf('{', start) + 1, text.indexOf('}', start));
  const values = new Map<string, number>();
  let next = 0;
  for (const entry of body.split(',')) {
    const [, name, , given] = /^\s*(\w+)\s*(=\s*([\s\S]+?))?\s*$/.exec(entry) ?? [];
    if (name === undefined) continue;
    const [, other] = /::k(\w+)\)$/.exec(given ?? '') ?? [];
    const value = other !== undefined ? known.get(plain(other)) : given === undefined ? next : evaluate(given);
    if (value === undefined) throw new Error(`${path}: the value of ${name} is not understood: ${given}`);
    if (!name.startsWith(prefix)) throw new Error(`${path}: ${name} does not begin with ${prefix}`);
    values.set(plain(name.slice(prefix.length)), value);
    next = value + 1;
  }
  return values;
}

/** The constants of a header whose names begin with `prefix`, without it. */
function cxxConstants(path: string, prefix: string): Table {
  const values = new Map<string, number>();
  for (const [, name = '', given = ''] of withoutComments(read(path)).matchAll(
    /constexpr\s+[\w:]+\s+(k\w+)\s*=\s*([^;]+);/g,
  )) {
    const value = name.startsWith(prefix) ? evaluate(given) : undefined;
    if (value !== undefined) values.set(plain(name.slice(prefix.length)), value);
  }
  return values;
}

/** The numbers of `const NAME = { ... }`. */
function scriptObject(path: string, name: string): Table {
  const [, body] = new RegExp(`const ${name} = \\{([\\s\\S]*?)\\}`).exec(withoutComments(read(path))) ?? [];
  if (body === undefined) throw new Error(`${path} has no ${name}`);
  return new Map([...body.matchAll(/(\w+):\s*(\w+)/g)].map(([, key = '', value]) => [plain(key), Number(value)]));
}

/** The constants of a module whose names begin with `prefix`, without it. */
function scriptConstants(path: string, prefix: string): Table {
  const values = new Map<string, number>();
  const pattern = /^(?:export )?const ([A-Z]\w*)(?:\s*:\s*\w+)?\s*=\s*([^;]+);/gm;
  for (const [, name = '', given = ''] of withoutComments(read(path)).matchAll(pattern)) {
    const value = name.startsWith(prefix) ? evaluate(given) : undefined;
    if (value !== undefined) values.set(plain(name.slice(prefix.length)), value);
  }
  return values;
}

/** What is wrong with a pair. `only`: names that one side alone has, because the other has no use for them. */
function differences(native: Table, script: Table, only: { native?: string[]; script?: string[] } = {}): string[] {
  if (native.size === 0 || script.size === 0) return ['a list is empty'];
  const [nativeOnly, scriptOnly] = [new Set(only.native?.map(plain)), new Set(only.script?.map(plain))];
  return [...new Set([...native.keys(), ...script.keys()])].flatMap((name) => {
    const [a, b] = [native.get(name), script.get(name)];
    if (b === undefined) return nativeOnly.has(name) ? [] : [`only C++ has ${name}`];
    if (a === undefined) return scriptOnly.has(name) ? [] : [`only TypeScript has ${name}`];
    return a === b ? [] : [`${name} is ${a} in C++ and ${b} in TypeScript`];
  });
}

const pick = (table: Table, ...names: string[]): Table =>
  new Map(names.map((name) => [plain(name), table.get(plain(name)) ?? Number.NaN]));

test('lists that differ are found to differ', () => {
  const native = new Map([...Object.entries({ one: 1, two: 2, three: 3 })]);
  expect(differences(native, new Map(native))).toEqual([]);
  expect(differences(native, new Map([...native, ['two', 3]]))).toEqual(['two is 2 in C++ and 3 in TypeScript']);
  expect(differences(native, new Map([...native].slice(1)))).toEqual(['only C++ has one']);
  expect(differences(native, new Map([...native, ['four', 4]]))).toEqual(['only TypeScript has four']);
  expect(differences(native, new Map())).toEqual(['a list is empty']);
});

describe('C++ and TypeScript agree on', () => {
  const status = cxxEnum('native/store/request.h', 'enum class Status');

  test('the codes that calls answer with', () => {
    const codes = cxxEnum('native/addon/convert.h', 'enum class Code', 'k', status);
    expect(differences(codes, scriptObject('src/native.ts', 'Code'))).toEqual([]);
  });

  test('what the store refuses, and by which rule', () => {
    const header = 'native/store/refusal.h';
    const options = cxxEnum(header, 'enum class Option');
    expect(differences(options, scriptObject('src/native.ts', 'RefusedOption'))).toEqual([]);
    expect(differences(cxxEnum(header, 'enum class Rule'), scriptObject('src/native.ts', 'RefusedRule'))).toEqual([]);
  });

  test('the words that calls leave, and where a value is', () => {
    const header = 'native/addon/environment.h';
    expect(differences(cxxEnum(header, 'enum class Word'), scriptObject('src/native.ts', 'Word'))).toEqual([]);
    const places = cxxEnum(header, 'enum class ValuePlace');
    // Whatever is not a Buffer lies in the scratch.
    const only = { native: ['none', 'scratch'] };
    expect(differences(places, scriptConstants('src/native.ts', 'PLACE_'), only)).toEqual([]);
  });

  test('what is left to do about a value of a chunk', () => {
    const marks = cxxConstants('native/addon/environment.h', 'kMark');
    const only = { native: ['absent'], script: ['words'] };
    expect(differences(marks, scriptConstants('src/native.ts', 'MARK_'), only)).toEqual([]);
    const absent = scriptConstants('src/request/packed.ts', 'ABSENT').get('');
    expect(absent).toBe(marks.get('absent'));
    const text = cxxConstants('native/addon/environment.h', 'kTextCodec').get('');
    expect(text).toBe(scriptConstants('src/request/codec.ts', 'TEXT_CODEC').get(''));
  });

  test('verbs and codecs', () => {
    const verbs = new Map([
      ...cxxEnum('native/store/request.h', 'enum class Verb'),
      ...cxxConstants('native/addon/batch_binding.h', 'kVerb'),
    ]);
    // Only the port asks for these.
    for (const verb of ['metaget', 'invalidate']) expect(verbs.delete(verb)).toBe(true);
    expect(differences(verbs, scriptObject('src/request/batch.ts', 'Verb'))).toEqual([]);
    const codecs = cxxEnum('native/store/request.h', 'enum class Codec');
    expect(differences(codecs, scriptObject('src/request/codec.ts', 'Codec'))).toEqual([]);
  });

  test('the layout of a batch', () => {
    const header = 'native/addon/batch_binding.h';
    const flags = cxxEnum(header, 'enum RequestFlag', 'kFlag');
    expect(differences(flags, scriptConstants('src/request/batch.ts', 'FLAG_'))).toEqual([]);
    const script = scriptConstants('src/request/batch.ts', '');
    const native = cxxConstants(header, 'kBatch');
    const names = ['headerBytes', 'requestsEnd', 'magic'];
    expect(differences(pick(native, ...names), pick(script, ...names))).toEqual([]);
    expect(script.get('batchblockbytes')).toBe(native.get('blockbytes'));
    expect(script.get('rowbytes')).toBe(sizeIn(header, 'AnswerRow'));
    expect(script.get('requestheaderbytes')).toBe(sizeIn(header, 'RequestHeader'));
  });

  test('flights: roles, news, answers and what leaving comes to', () => {
    const header = 'native/process/flight_table.h';
    const script = (prefix: string): Table => scriptConstants('src/fetch/flight-binding.ts', prefix);
    // A handle that has been closed settles its flights itself.
    expect(differences(cxxEnum(header, 'enum class FlightRole'), script('ROLE_'), { native: ['closed'] })).toEqual([]);
    const news = cxxEnum(header, 'struct FlightNews > enum class Kind');
    const only = { native: ['closed'], script: ['fields'] };
    expect(differences(news, script('NEWS_'), only)).toEqual([]);
    const answers = cxxEnum(header, 'struct FlightAnswer > enum class Kind');
    expect(differences(answers, script('ANSWER_'), { native: ['value'] })).toEqual([]);
    const leave = cxxEnum(header, 'enum class FlightLeave');
    expect(differences(leave, script('LEAVE_'), { native: ['left', 'abort'] })).toEqual([]);
    const binding = cxxConstants('native/addon/flight_binding.cc', 'k');
    expect(script('ROLES').get('')).toBe(binding.get('roles'));
    expect(script('NEWS_FIELDS').get('')).toBe(binding.get('newsfields'));
  });

  test('removals: reasons, and the size of the header of an event', () => {
    const reasons = cxxEnum('native/store/request.h', 'enum class Reason');
    const [, list = ''] = /REASONS: readonly RemovalReason\[\] = \[([^\]]*)\]/.exec(read('src/removals.ts')) ?? [];
    const script = new Map([...list.matchAll(/'(\w+)'/g)].map(([, name = ''], i) => [name, i]));
    expect(differences(reasons, script, { native: ['cleared'] })).toEqual([]);
    expect(scriptConstants('src/removals.ts', 'CLEARED').get('')).toBe(reasons.get('cleared'));
    const bytes = sizeIn('native/process/removal_ring.h', 'RemovalEventHeader');
    expect(scriptConstants('src/removals.ts', 'HEADER_BYTES').get('')).toBe(bytes);
  });

  test("a session's answers, and the sizes of its items", () => {
    const native = 'native/addon/session_binding.h';
    const script = 'src/server/native-session.ts';
    const next = cxxEnum('native/protocol/session.h', 'enum class Next');
    expect(differences(next, scriptObject(script, 'Next'))).toEqual([]);
    const flags = cxxEnum(native, 'enum SessionFlag', 'kSession');
    const theirs = new Map([
      ...scriptConstants(script, 'FLAG_'),
      ['nextmask', scriptConstants(script, 'NEXT_MASK').get('')!],
    ]);
    expect(differences(flags, theirs)).toEqual([]);
    const range = cxxConstants(native, 'kSessionFlagsRange').get('');
    expect(scriptConstants(script, 'FLAGS_RANGE').get('')).toBe(range);
    const account = cxxConstants('native/protocol/limits.h', 'kAccountBytesMax').get('');
    expect(scriptConstants('src/limits.ts', 'ACCOUNT_BYTES_MAX').get('')).toBe(account);
    const logins = cxxEnum('native/protocol/authentication.h', 'enum class Login');
    expect(differences(logins, scriptObject(script, 'LoginCode'))).toEqual([]);
    const items = cxxConstants('native/protocol/limits.h', 'kItemBytes');
    const only = { script: ['min'] };
    expect(differences(items, scriptConstants('src/limits.ts', 'ITEM_BYTES_'), only)).toEqual([]);
  });

  test('the log: its states, its numbers and its records', () => {
    const states = cxxEnum('native/process/change_feed.h', 'enum class State');
    expect(differences(states, scriptObject('src/native.ts', 'FeedState'))).toEqual([]);
    const stats = cxxEnum('native/addon/feed_binding.h', 'enum FeedStat', 'kFeed');
    const script = new Map([
      ...scriptObject('src/native.ts', 'FeedStat'),
      ...scriptConstants('src/native.ts', 'FEED_'),
    ]);
    expect(differences(stats, script)).toEqual([]);
    const metrics = cxxConstants('native/process/change_feed.h', 'kLogMetricsMax').get('');
    expect(scriptConstants('src/native.ts', 'LOG_METRICS_MAX').get('')).toBe(metrics);
    const kinds = cxxEnum('native/store/record.h', 'enum class RecordKind');
    expect(differences(kinds, scriptObject('src/request/record.ts', 'RecordKind'))).toEqual([]);
    const header = cxxConstants('native/store/record.h', 'kRecordHeaderBytes').get('');
    expect(scriptConstants('src/request/record.ts', 'RECORD_HEADER_BYTES').get('')).toBe(header);
    const fields = cxxEnum('native/store/record.h', 'enum RecordField', 'kField');
    expect(differences(fields, scriptObject('src/request/record.ts', 'RecordField'))).toEqual([]);
  });

  test('limits that both name', () => {
    const native = cxxConstants('native/base/limits.h', 'k');
    const script = scriptConstants('src/limits.ts', '');
    const common = [...script.keys()].filter((name) => native.has(name));
    expect(common).toContain('keybytesmax');
    expect(differences(pick(native, ...common), pick(script, ...common))).toEqual([]);
    const unlimited = scriptConstants('src/resize.ts', 'ENTRIES_UNLIMITED').get('');
    expect(unlimited).toBe(native.get('entriesunlimited'));
  });
});

/** What a header asserts of a struct's size. */
function sizeIn(path: string, name: string): number {
  const [, bytes] = new RegExp(`static_assert\\(sizeof\\(${name}\\) == (\\d+)`).exec(read(path)) ?? [];
  if (bytes === undefined) throw new Error(`${path} asserts no size of ${name}`);
  return Number(bytes);
}

// The rows of a table of a document, below its header.
function rowsOf(document: string, header: string): string[] {
  const lines = read(`docs/${document}`).split('\n');
  const start = lines.indexOf(header) + 2;
  return lines.slice(start, lines.indexOf('', start));
}

// A default is code, unless it is words, a number or nothing.
function documented(options: Readonly<Record<string, Row>>): string[] {
  const asCode = (text: string): string => (/^('.*'|true|false|0o\d+)$/.test(text) ? `\`${text}\`` : text);
  return Object.entries(options).map(([name, row]) =>
    `| \`${name}\` | ${asCode(row.default)} | ${row.doc} |`.replace('|  |', '| |'),
  );
}

describe('the documents say of every option what src/options/table.ts says', () => {
  test('docs/api.md, of a cache', () => {
    expect(rowsOf('api.md', '| Option | Default | |')).toEqual(documented(CACHE_OPTIONS));
  });

  test('docs/api.md, of serve', () => {
    expect(rowsOf('api.md', '| Option of listen | Default | |')).toEqual(documented(SERVE_OPTIONS));
  });

  test('docs/cli.md, of the command', () => {
    const rows = serveFlags.map(({ names, default: otherwise, doc }) =>
      `| \`${names}\` | ${otherwise} | ${doc} |`.replace('|  |', '| |'),
    );
    expect(rowsOf('cli.md', '| Option of `serve` | Default | |')).toEqual(rows);
  });
});
