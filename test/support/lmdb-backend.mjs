// A real, transactional database for tests that need no server: LMDB, in a directory that CAIRN_TEST_LMDB names. It
// keeps rows, the cursor, and a history of every change that had an effect, in one transaction, so that a test can
// count effects. Tables: `rows` by key, `cursors` by lane, `history` by number.
//
// Values that contain "poison" are refused for good, and become dead letters, with the atomic batch that they are of.
//
// CAIRN_TEST_LMDB_MISTAKE shows that tests find what a database does wrong: `forgets` leaves out every change of one
// key in eight, `repeats` has their effects twice, `unfenced` takes each process for the only writer,
// `forgetful-cursor` commits a batch with a key that ends in `:k7` without its cursor, the first time in a process, and
// fails then.

import { open } from 'lmdb';

export const POISON = Buffer.from('poison');

/** @param {string} path */
export function openTables(path) {
  const root = open({ path, maxDbs: 8, noSubdir: false, compression: false });
  return {
    root,
    rows: root.openDB({ name: 'rows', keyEncoding: 'binary', encoding: 'msgpack' }),
    cursors: root.openDB({ name: 'cursors', encoding: 'msgpack' }),
    history: root.openDB({ name: 'history', encoding: 'msgpack' }),
  };
}

const plain = (cursor) => ({
  ...cursor,
  logId: String(cursor.logId),
  position: String(cursor.position),
  writer: String(cursor.writer),
  holderWriter: String(cursor.holderWriter),
});
const whole = (cursor) => ({
  ...cursor,
  logId: BigInt(cursor.logId),
  position: BigInt(cursor.position),
  writer: BigInt(cursor.writer),
  holderWriter: BigInt(cursor.holderWriter),
});

const PARTS = ['laneCount', 'logId', 'position', 'epoch', 'writer', 'holderEpoch', 'holderWriter'];
const isSame = (a, b) => PARTS.every((part) => a?.[part] === b?.[part]);

// A mistake belongs to a key: a later change of the key cannot make it good.
function isMistaken(key) {
  return key.reduce((sum, byte) => sum + byte, 0) % 8 === 0;
}

function mistaken(changes) {
  switch (process.env.CAIRN_TEST_LMDB_MISTAKE) {
    case 'forgets':
      return changes.filter(({ key }) => !isMistaken(key));
    case 'repeats':
      return changes.flatMap((change) => (isMistaken(change.key) ? [change, change] : [change]));
    default:
      return changes;
  }
}

class LmdbBackend {
  name;
  level = 'transactional';
  #path;
  #tables;
  /** Keys whose batch has been committed without its cursor. */
  #careless = new Set();
  /** Of an unfenced process, by lane: the cursors that it has written last. */
  #own = new Map();

  constructor(path) {
    this.#path = path;
    this.name = `lmdb:${path}`;
  }

  async open() {
    this.#tables ??= openTables(this.#path);
  }

  async readCursors() {
    const found = [...this.#tables.cursors.getRange({ snapshot: true })].map(({ value }) => whole(value));
    return found.map((cursor) => this.#own.get(cursor.lane) ?? cursor);
  }

  async write({ changes, from, to, also = [] }) {
    const { root, cursors } = this.#tables;
    const deadLetters = [];
    let isCareless = false;
    const found = root.transactionSync(() => {
      const moves = [{ from, to }, ...also];
      for (const move of moves) {
        const { lane } = move.from ?? move.to;
        const stored = cursors.get(lane);
        const cursor = this.#own.get(lane) ?? (stored === undefined ? undefined : whole(stored));
        if (!isSame(cursor, move.from)) return { cursor };
      }
      isCareless = this.#isCareless(changes);
      for (const move of isCareless ? [] : moves) {
        if (move.to === undefined) cursors.removeSync(move.from.lane);
        else cursors.putSync(move.to.lane, plain(move.to));
      }
      const isPoison = (change) => change.kind === 'set' && change.value.includes(POISON);
      const refused = new Set(changes.filter(isPoison).map(({ atomic }) => atomic));
      for (const change of mistaken(changes)) {
        if (isPoison(change) || (change.atomic !== undefined && refused.has(change.atomic))) {
          deadLetters.push({ change, error: new Error('a value that the database refuses') });
        } else this.#apply(change);
      }
      return undefined;
    });
    if (found === undefined && process.env.CAIRN_TEST_LMDB_MISTAKE === 'unfenced') {
      for (const move of [{ to }, ...also]) if (move.to !== undefined) this.#own.set(move.to.lane, move.to);
    }
    if (isCareless) throw new Error('the connection is lost');
    return found === undefined ? { kind: 'committed', deadLetters } : { kind: 'moved', found: found.cursor };
  }

  // Of each key once.
  #isCareless(changes) {
    if (process.env.CAIRN_TEST_LMDB_MISTAKE !== 'forgetful-cursor') return false;
    const keys = changes.map(({ key }) => String(key)).filter((key) => key.endsWith(':k7'));
    const fresh = keys.filter((key) => !this.#careless.has(key));
    for (const key of fresh) this.#careless.add(key);
    return fresh.length > 0;
  }

  #apply(change) {
    const { rows, history } = this.#tables;
    const [last] = history.getKeys({ reverse: true, limit: 1 });
    history.putSync((last ?? 0) + 1, [change.kind, change.key.toString('latin1'), String(change.version)]);
    if (change.kind === 'delete') {
      rows.removeSync(change.key);
      return;
    }
    const { expiresWallMs } = change;
    const version = String(change.version);
    if (change.kind === 'set') {
      const { value, codec, clientFlags } = change;
      rows.putSync(change.key, { value, codec, clientFlags, expiresWallMs, version });
    } else {
      const row = rows.get(change.key);
      if (row !== undefined) rows.putSync(change.key, { ...row, expiresWallMs, version });
    }
  }

  async load(keys) {
    const { root, rows, cursors } = this.#tables;
    return root.transactionSync(() => ({
      rows: keys.map((key) => {
        const row = rows.get(key);
        const isThere = row !== undefined && (row.expiresWallMs === 0 || row.expiresWallMs > Date.now());
        return isThere ? { ...row, version: BigInt(row.version) } : undefined;
      }),
      cursors: [...cursors.getRange()].map(({ value }) => whole(value)),
    }));
  }

  async *scan() {
    const { root, rows, cursors } = this.#tables;
    yield root.transactionSync(() => ({
      rows: [...rows.getRange({ snapshot: true })]
        .filter(({ value }) => value.expiresWallMs === 0 || value.expiresWallMs > Date.now())
        .map(({ key, value }) => ({ ...value, key: Buffer.from(key), version: BigInt(value.version) })),
      cursors: [...cursors.getRange({ snapshot: true })].map(({ value }) => whole(value)),
    }));
  }

  classify() {
    return 'transient';
  }

  async close() {
    const { root } = this.#tables ?? {};
    this.#tables = undefined;
    await root?.close();
  }
}

export default () => new LmdbBackend(process.env.CAIRN_TEST_LMDB);
