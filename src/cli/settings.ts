/**
 * Where the options of `cairn serve` come from. Of several sources the first counts:
 *
 *     flags        -m 512
 *     environment  CAIRN_MAX_MEMORY=512mb
 *     file         export default { maxMemory: '512mb' }
 *     default      the option's own
 *
 * A setting is an option with its value, as the API takes it, and with the name by which the user gave it. Nothing is
 * opened here except the file.
 */
import { existsSync, readFileSync } from 'node:fs';
import { extname, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { CairnError, messageIn, type Naming, reasonOf, show } from '../errors.ts';
import {
  CACHE_OPTIONS,
  checkBoolean,
  checkNames,
  LOADS_OPTIONS,
  type Row,
  SERVE_OPTIONS,
  SNAPSHOT_OPTIONS,
  suggestion,
  TLS_OPTIONS,
  WRITE_BACK_OPTIONS,
} from '../options.ts';

export type Source = 'flag' | 'environment' | 'file';

export interface Setting {
  readonly value: unknown;
  readonly source: Source;
  /** `-m`, `CAIRN_MAX_MEMORY`, `maxMemory in ./cairn.json`. */
  readonly name: string;
}

/** By the names of the options: `maxMemory`, `snapshot.every`. */
export type Settings = ReadonlyMap<string, Setting>;

/** Options that hold options. */
const NESTED: Readonly<Record<string, Readonly<Record<string, Row>>>> = {
  snapshot: SNAPSHOT_OPTIONS,
  writeBack: WRITE_BACK_OPTIONS,
  loads: LOADS_OPTIONS,
  tls: TLS_OPTIONS,
};

/** Only a program can give these; and a server waits for what its cache does. */
const OF_PROGRAMS: readonly string[] = ['clock', 'loader', 'onRecovery', 'promises', 'random', 'raw'];

/** The command's own option. */
export const ALLOW_OPEN: Row<boolean> = {
  check: (given, name) => checkBoolean(name, given, false),
  default: 'false',
  doc: 'allows `data` together with addresses beyond loopback',
  flag: {
    names: '--allow-open',
    default: '',
    doc: 'allows `--data` together with addresses beyond loopback without passwords: every client there can read and write all entries',
  },
};

/** Every option of the command that may be set, by name: those of the cache first. */
export const SETTABLE: ReadonlyMap<string, Row> = new Map([
  ...Object.entries<Row>(CACHE_OPTIONS).flatMap(flat),
  ...Object.entries<Row>(SERVE_OPTIONS).flatMap((each) => (each[0] === 'ack' ? [] : flat(each))),
  ['allowOpen', ALLOW_OPEN],
]);

// An option that holds options is those.
function flat([name, row]: [string, Row]): [string, Row][] {
  if (OF_PROGRAMS.includes(name)) return [];
  const rows = NESTED[name];
  if (rows === undefined) return [[name, row]];
  return Object.entries(rows).map(([inner, each]) => [`${name}.${inner}`, each]);
}

/** How an option is called by the user that gave it; `otherwise`, if it was left out. */
export function nameIn(settings: Settings, otherwise: (option: string) => string): (option: string) => string {
  return (option) => {
    const setting = settings.get(option);
    if (setting !== undefined) return setting.name;
    // For which the cache has to allow larger values.
    return (option === 'maxValueBytes' ? settings.get('maxItemSize')?.name : undefined) ?? otherwise(option);
  };
}

/** The value of an option for the eyes of an operator: a database has no credentials then. */
export function shown(option: string, { value }: Setting): unknown {
  if (option === 'store') return CACHE_OPTIONS.store.check(value, option, () => 0)?.name;
  if (option !== 'stores') return value;
  const stores = CACHE_OPTIONS.stores.check(value, option, () => 0);
  return Object.fromEntries(stores.map(({ name, target }) => [name, target.name]));
}

/** Of several settings of an option the first counts. */
export function merge(...sources: readonly Settings[]): Settings {
  return new Map(sources.toReversed().flatMap((settings) => [...settings]));
}

/** What is wrong with an option by itself, in a message that calls options as `say` does; undefined: nothing. */
export function complaintOf(option: string, row: Row, value: unknown, say: Naming): string | undefined {
  try {
    // How much memory there is is not known before the addon is loaded: a share of it is checked then.
    row.check(value, option, () => Number.MAX_SAFE_INTEGER);
    return undefined;
  } catch (error) {
    return messageIn(error as Error, say);
  }
}

/** Throws `ERR_INVALID_ARGUMENT` with the name by which it was given. */
export function checkSetting(option: string, { value, name }: Setting): void {
  const complaint = complaintOf(option, SETTABLE.get(option)!, value, (each) => (each === option ? name : each));
  if (complaint !== undefined) throw wrong(complaint);
}

// ---- the environment ----

const PREFIX = 'CAIRN_';

/** Variables of the package that are no options. */
const OTHER_VARIABLES =
  /^CAIRN_(CONFIG|NATIVE_PATH|NODES|SEED|REQUIRE_SERVICES|(TEST|MODEL|FUZZ|PACKAGE|BENCH|TORTURE)_?.*)$/;

/** Kubernetes sets these for a service whose name begins with `cairn`. */
const OF_A_SERVICE = /^CAIRN_.*(SERVICE_(HOST|PORT)|PORT_\d+_)/;

/** `snapshot.logBytes` is `CAIRN_SNAPSHOT_LOG_BYTES`. */
export function variableOf(option: string): string {
  return PREFIX + option.replace(/[A-Z]|\./g, (each) => `_${each.replace('.', '')}`).toUpperCase();
}

/**
 * The options that the variables give; those of an empty value give none. Throws `ERR_INVALID_ARGUMENT`. `warn` is told
 * of variables that look like options and are none.
 */
export function settingsOfEnvironment(env: NodeJS.ProcessEnv, warn: (message: string) => void): Settings {
  const options = new Map([...SETTABLE.keys()].map((option) => [variableOf(option), option]));
  const settings = new Map<string, Setting>();
  for (const [name, text = ''] of Object.entries(env)) {
    if (!name.startsWith(PREFIX) || text === '') continue;
    const option = options.get(name);
    if (option === undefined) {
      if (!OTHER_VARIABLES.test(name) && !OF_A_SERVICE.test(name))
        warn(`${name} is ignored${suggestion(name, [...options.keys()])}`);
    } else if (option === 'port' && /^(tcp|udp|sctp):\/\//.test(text)) {
      warn(`${name} is ignored: it is ${text}, as Kubernetes sets it for a service of the name "cairn"`);
    } else {
      const setting: Setting = { value: valueOf(option, text), source: 'environment', name };
      checkSetting(option, setting);
      settings.set(option, setting);
    }
  }
  return settings;
}

/** Options whose value is text, also where it looks like a number. */
const TEXTS: readonly string[] = [
  ...['name', 'data', 'path', 'store', 'authFile', 'saslFile'],
  ...['tls.cert', 'tls.key', 'tls.ca', 'tls.ciphers'],
];

// As the API takes it: numbers and truths are not text there.
function valueOf(option: string, text: string): unknown {
  if (TEXTS.includes(option)) return text;
  if (option === 'host') return text.split(',').map((each) => each.trim());
  // Only text in JSON can say it; what is none is refused as text.
  if (option === 'rules' || option === 'warmUp' || option === 'stores') return jsonOr(text);
  if (option === 'pathMode') return SERVE_OPTIONS.pathMode.flag.read(text) ?? text;
  if (/^-?\d+(\.\d+)?$/.test(text)) return Number(text);
  if (text === 'true' || text === 'false') return text === 'true';
  return text;
}

function jsonOr(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

// ---- the file ----

/**
 * The options that a file gives. `.json` is read; `.js` and `.mjs` are modules whose default export is the options, or
 * a promise of them. Throws `ERR_INVALID_ARGUMENT` with the name of the file.
 */
export async function settingsOfFile(file: string): Promise<Settings> {
  const settings = new Map<string, Setting>();
  const options = flatten(await load(file), file);
  for (const [option, value] of options) {
    if (value === undefined) continue;
    const setting: Setting = { value, source: 'file', name: `${option} in ${file}` };
    checkSetting(option, setting);
    settings.set(option, setting);
  }
  return settings;
}

async function load(file: string): Promise<unknown> {
  const path = resolve(file);
  if (!existsSync(path)) throw wrong(`There is no file ${file}`);
  switch (extname(path)) {
    case '.json':
      try {
        return JSON.parse(readFileSync(path, 'utf8'));
      } catch (cause) {
        throw wrong(`${file} is not JSON: ${(cause as Error).message}`, cause);
      }
    case '.js':
    case '.mjs': {
      let exported: unknown;
      try {
        ({ default: exported } = (await import(pathToFileURL(path).href)) as { default?: unknown });
        exported = await exported;
      } catch (cause) {
        throw wrong(`${file} cannot be loaded: ${reasonOf(cause)}`, cause);
      }
      if (exported === undefined) throw wrong(`${file} exports no default: export default { maxMemory: '512mb' }`);
      return exported;
    }
    default:
      throw wrong(`Expected the configuration to be a file that ends in .js, .mjs or .json, got ${show(file)}`);
  }
}

// `{ snapshot: { every } }` has `snapshot.every`.
function flatten(options: unknown, file: string): [string, unknown][] {
  const top = new Set([...SETTABLE.keys()].map((option) => option.replace(/\..*/, '')));
  const given = namesOf(`the options in ${file}`, options, [...top]);
  return Object.entries(given).flatMap(([name, value]): [string, unknown][] => {
    const rows = NESTED[name];
    if (rows === undefined || value === undefined) return [[name, value]];
    const inner = namesOf(`${name} in ${file}`, value, Object.keys(rows));
    return Object.entries(inner).map(([each, its]) => [`${name}.${each}`, its]);
  });
}

function namesOf(what: string, options: unknown, names: readonly string[]): Record<string, unknown> {
  return checkNames<Record<string, unknown>>(what, (options ?? null) as Record<string, unknown>, names);
}

function wrong(message: string, cause?: unknown): CairnError {
  return new CairnError('ERR_INVALID_ARGUMENT', message, cause === undefined ? undefined : { cause });
}
