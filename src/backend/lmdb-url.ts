/** The address of an LMDB backend: `lmdb:PATH?size=10gb&full=evict`. */
import { misplaced } from '../errors.ts';
import { fileAddress, sizeOf, wordOf } from './address.ts';
import { LmdbBackend } from './lmdb.ts';
import type { MakeBackendOptions } from './open.ts';

/** A smaller file could not hold the pages of one batch beside its rows. */
const SIZE_BYTES_MIN: number = 2 ** 20;

export function lmdbFrom(address: string, { clock, directory, rules }: MakeBackendOptions): LmdbBackend {
  const { path, parameters } = fileAddress(address, directory, { file: 'store.lmdb', known: ['size', 'full'] });
  const size = parameters.get('size');
  const full = wordOf('full', parameters.get('full'), ['refuse', 'evict']);
  if (size === undefined && parameters.has('full'))
    throw misplaced('The parameter full needs a size: lmdb:PATH?size=10gb');
  const limitBytes = size === undefined ? undefined : sizeOf('size', size);
  if (limitBytes !== undefined && limitBytes < SIZE_BYTES_MIN)
    throw misplaced('Expected the parameter size to be 1mb or more');
  return new LmdbBackend({ path, limitBytes, full, clock, rules });
}
