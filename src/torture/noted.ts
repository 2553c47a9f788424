/**
 * A backend that notes the effects of changes in the database itself, for databases without triggers: beside each
 * change of a batch it sets a row, in the same transaction, whose key names the change and is new with every call of
 * `write`.
 * A batch that is committed twice leaves two rows of the same change.
 *
 * The server of a torture has it as its module (`CAIRN_STORE`). The database behind is named by another variable.
 */
import { randomBytes } from 'node:crypto';
import { type Backend, type Change, type MakeBackendOptions, makeBackend, type SetChange } from '../backend/index.ts';

/** The address of the database. */
export const NOTED_VARIABLE = 'CAIRN_TORTURE_DATABASE';

/** No key of a client begins so: a key of the text protocol has no space. */
const PREFIX = 'effect ';

/** What finds such rows in a database: the bytes that their keys begin with. */
export const EFFECT_PREFIX: Buffer = Buffer.from(PREFIX);

export function isEffect(key: Buffer): boolean {
  return key.toString('latin1', 0, PREFIX.length) === PREFIX;
}

/** `set s0:k1 17`: without what tells two effects of one change apart. */
export function effectIn(key: Buffer): string {
  return key.toString('latin1').split(' ').slice(2).join(' ');
}

/** Makes the backend of the server of a torture. */
async function makeNoted(options: MakeBackendOptions): Promise<Backend> {
  const address = process.env[NOTED_VARIABLE];
  if (address === undefined) throw new Error(`Expected ${NOTED_VARIABLE} to name the database`);
  return noted(await makeBackend(address, options));
}

// biome-ignore lint/style/noDefaultExport: a module for `--store` has it.
export default makeNoted;

export function noted(backend: Backend): Backend {
  const process = randomBytes(6).toString('hex');
  let calls = 0;
  const { deadLetters } = backend;
  return {
    name: backend.name,
    level: backend.level,
    open: () => backend.open(),
    readCursors: () => backend.readCursors(),
    load: (keys) => backend.load(keys),
    scan: (signal) => backend.scan(signal),
    write: (batch) => {
      const call = `${process}.${++calls}`;
      return backend.write({ ...batch, changes: batch.changes.flatMap((change) => [change, noteOf(change, call)]) });
    },
    ...(backend.sweep !== undefined && { sweep: (piece) => backend.sweep!(piece) }),
    ...(deadLetters !== undefined && { deadLetters }),
    classify: (error) => backend.classify(error),
    close: () => backend.close(),
  };
}

function noteOf({ kind, key, version }: Change, call: string): SetChange {
  return {
    kind: 'set',
    key: Buffer.from(`${PREFIX}${call} ${kind} ${key.toString('latin1')} ${version}`, 'latin1'),
    value: Buffer.alloc(0),
    codec: 0,
    clientFlags: 0,
    expiresWallMs: 0,
    version,
  };
}
