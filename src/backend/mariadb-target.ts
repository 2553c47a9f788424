/** The parts of the address of a MariaDB or MySQL backend, as its package takes them. */
import { misplaced, show } from '../errors.ts';
import { checkPrefix } from './address.ts';
import type { MariadbTarget } from './mariadb-connection.ts';

export interface MariadbAddress {
  readonly target: MariadbTarget;
  /** Where the database is, without credentials. */
  readonly name: string;
  readonly prefix: string | undefined;
}

const KNOWN = ['prefix', 'socket', 'ssl'];

/** Throws `ERR_INVALID_ARGUMENT` for an address that cannot be taken apart. */
export function mariadbTarget(address: string): MariadbAddress {
  const parts = /^([^:]+):\/\/(?:([^/?#@:]*)(?::([^/?#@]*))?@)?([^/?#@:]*)(?::(\d+))?\/([^/?#@]+)(?:\?([^#@]*))?$/.exec(
    address,
  );
  if (parts === null) {
    throw misplaced(
      'Expected mariadb://USER:PASSWORD@HOST:PORT/DATABASE, with the characters / ? # @ : in user and password encoded (%40)',
    );
  }
  const [, scheme = '', user, password, host = '', port, database = '', query = ''] = parts;
  const parameters = new URLSearchParams(query);
  for (const name of parameters.keys()) {
    if (!KNOWN.includes(name))
      throw misplaced(`${scheme}: has no parameter ${show(name)}: known are ${KNOWN.join(', ')}`);
  }
  const ssl = parameters.get('ssl') ?? 'false';
  if (ssl !== 'true' && ssl !== 'false')
    throw misplaced('Expected the parameter ssl of the database to be true or false');
  const socketPath = parameters.get('socket') ?? undefined;
  const target = {
    host: decode(host) || 'localhost',
    port: Number(port ?? 3306),
    socketPath,
    user: user === undefined ? undefined : decode(user),
    // Kept out of the address, it may be in the environment.
    password: password === undefined ? process.env['MARIADB_PASSWORD'] : decode(password),
    database: decode(database),
    ssl: ssl === 'true',
  };
  const place = socketPath ?? `${target.host}${port === undefined ? '' : `:${port}`}`;
  const kind = scheme.toLowerCase() === 'mysql' ? 'MySQL' : 'MariaDB';
  const name = `${kind} at ${place} (${target.database})`;
  return { target, name, prefix: checkPrefix(parameters.get('prefix') ?? undefined) };
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw misplaced('Expected % in the address of the database to begin two hexadecimal digits');
  }
}
