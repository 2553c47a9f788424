/** The URL of a PostgreSQL backend: pg's, with two parameters of this project's, `schema` and `prefix`. */
import { misplaced } from '../errors.ts';
import { checkPrefix } from './address.ts';
import type { MakeBackendOptions } from './open.ts';
import { PostgresBackend } from './postgres.ts';

export function postgresFrom(
  address: string,
  { clock, rules, readsOnly, lanes }: Pick<MakeBackendOptions, 'clock' | 'rules' | 'readsOnly' | 'lanes'>,
): PostgresBackend {
  // Such an address would be read wrongly, and a part of its password taken for the host.
  if (!/^[^:]+:(\/\/([^/?#@]*@)?[^/?#@]*)?(\/[^?#@]*)?(\?[^#@]*)?$/.test(address)) {
    throw misplaced(
      'Expected the characters / ? # @ in user, password and parameters of the database to be encoded (%40)',
    );
  }
  const question = address.indexOf('?');
  const parameters = new URLSearchParams(question < 0 ? '' : address.slice(question + 1));
  const schema = parameters.get('schema') ?? undefined;
  const prefix = checkPrefix(parameters.get('prefix') ?? undefined);
  if (schema === '') throw misplaced('Expected the parameter schema of the database to be the name of a schema');
  parameters.delete('schema');
  parameters.delete('prefix');
  const rest = parameters.toString();
  const base = question < 0 ? address : address.slice(0, question);
  const url = rest === '' ? base : `${base}?${rest}`;
  return new PostgresBackend({
    clock,
    rules,
    readsOnly,
    lanes,
    url,
    name: nameOf(base, parameters.get('host')),
    schema,
    prefix,
  });
}

/** Where the database is, without credentials. */
function nameOf(base: string, socket: string | null): string {
  const [, authority = '', database = ''] = /^[^:]+:(?:\/\/([^/]*))?(?:\/(.*))?$/.exec(base) ?? [];
  const address = authority.slice(authority.indexOf('@') + 1);
  const host = address === '' ? (socket ?? 'localhost') : decode(address);
  return `PostgreSQL at ${host}${database === '' ? '' : ` (${decode(database)})`}`;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // Not encoded: pg decides what it means.
    return text;
  }
}
