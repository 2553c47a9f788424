// The options of a bench on its command line.

import { parseArgs } from 'node:util';

/**
 * The values of the options, as parseArgs of node:util takes them; `--help` and `-h` come with them. Undefined: the
 * text of the help has been printed, and the bench is done.
 */
export function readOptions(args, help, options) {
  const { values } = parseArgs({ args, options: { ...options, help: { type: 'boolean', short: 'h' } } });
  if (!values.help) return values;
  console.log(help);
  return undefined;
}

/** The number of an option, from `least`; `otherwise` where the option is not given. */
export function numberOption(values, name, otherwise, { least = 1, isWhole = true } = {}) {
  const value = Number(values[name] ?? otherwise);
  if ((isWhole ? Number.isSafeInteger(value) : Number.isFinite(value)) && value >= least) return value;
  const kind = isWhole ? 'a whole number' : 'a number';
  throw new RangeError(`Expected --${name} to be ${kind} from ${least}, got "${values[name]}"`);
}

/** Names with commas between, each of `known`; all `usual` ones where the option is not given. */
export function namesOption(values, name, known, usual = known) {
  const names = values[name]?.split(',') ?? usual;
  for (const given of names) {
    if (!known.includes(given)) throw new RangeError(`Expected --${name} to be of ${known.join(', ')}, got "${given}"`);
  }
  return names;
}
