/** The address of a MariaDB or MySQL backend: `mariadb://user:password@host:3306/database?prefix=cairn_`. */
import { MariadbBackend } from './mariadb.ts';
import { mariadbTarget } from './mariadb-target.ts';
import type { MakeBackendOptions } from './open.ts';

export function mariadbFrom(
  address: string,
  { clock, rules, readsOnly, lanes }: Pick<MakeBackendOptions, 'clock' | 'rules' | 'readsOnly' | 'lanes'>,
): MariadbBackend {
  return new MariadbBackend({ ...mariadbTarget(address), clock, rules, readsOnly, lanes });
}
