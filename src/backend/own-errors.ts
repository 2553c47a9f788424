/** Errors of this project's that backends throw and meet. */
import { CairnError, errorKind } from '../errors.ts';
import type { ErrorClass } from './backend.ts';

/** The class of an error of this project's; undefined for others, which their database classifies. */
export function classOfOwn(error: unknown): ErrorClass | undefined {
  if (errorKind(error) === undefined) return undefined;
  const { code } = error as { code: string };
  return code === 'ERR_CLOSED' || code === 'ERR_QUEUE_FULL' ? 'transient' : 'halt';
}

/** The tables, or the database, are not as they have to be. */
export function unfit(problems: readonly string[]): CairnError {
  return new CairnError('ERR_BACKEND_UNFIT', `The database cannot be used: ${problems.join('; ')}`);
}

/** The database refuses for good, and no change can be blamed for it. `refused`: a batch as a whole, a dead letter. */
export function refusal(refused: string, cause: unknown): CairnError {
  const { message } = cause as Error;
  return new CairnError('ERR_BACKEND_UNFIT', `The database refuses ${refused}: ${message}`, { cause });
}
