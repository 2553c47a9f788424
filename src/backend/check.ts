/** Whether an object that a user made is a backend. */
import { CairnTypeError, misplaced, namingOptions, show, wrongType } from '../errors.ts';
import type { RuleSet } from '../rules/index.ts';
import type { Backend, BackendLevel } from './backend.ts';
import { unfit } from './own-errors.ts';

const METHODS = ['open', 'readCursors', 'load', 'scan', 'write', 'classify', 'close'] as const;
const LEVELS: readonly BackendLevel[] = ['transactional', 'idempotent'];

/** Throws `ERR_INVALID_ARGUMENT` that says what a backend lacks. `name`: what it is called in the message. */
export function checkBackend(value: unknown, name: string): asserts value is Backend {
  if (typeof value !== 'object' || value === null) throw wrongType(name, 'a backend', value);
  const backend = value as Partial<Record<keyof Backend, unknown>>;
  const missing = METHODS.filter((method) => typeof backend[method] !== 'function');
  if (missing.length > 0) {
    const list = missing.map((method) => `${method}()`).join(', ');
    // Without its other fields: a password may be among them.
    throw namingOptions(
      (text) => new CairnTypeError('ERR_INVALID_ARGUMENT', text),
      (say) => `Expected ${say(name)} to be a backend, which has ${list} too`,
    );
  }
  if (typeof backend.name !== 'string') throw wrongType(`the name of ${name}`, 'a string', backend.name);
  if (!LEVELS.some((level) => level === backend.level)) {
    const levels = LEVELS.map((level) => show(level)).join(' or ');
    throw misplaced(`Expected the level of ${name} to be ${levels}, got ${show(backend.level)}`);
  }
}

/** Throws `ERR_BACKEND_UNFIT` if a rule adds to rows, and the backend might add a batch twice. */
export function checkCounters({ name, level }: Pick<Backend, 'name' | 'level'>, { counterRule }: RuleSet): void {
  if (level === 'transactional' || counterRule === undefined) return;
  throw unfit([
    `the rule for ${show(counterRule.prefix)} adds to rows (counter: true), and ${name} is of level ${level}: after a failure it would add twice`,
  ]);
}
