/** What the store refuses when a cache is opened or resized, as an error that names our options. */
import { CairnError, type CairnRangeError, type Expectation, outOfRange } from './errors.ts';
import { type NativeRefusal, RefusedOption, RefusedRule } from './native.ts';

const OURS: Readonly<Record<string, string>> = {
  memoryBytes: 'maxMemory',
  memoryBytesCeiling: 'maxMemoryCeiling',
  shardCount: 'shards',
  valueBytesMax: 'maxValueBytes',
  ringBytes: 'ringSize',
};
/** By the numbers of RefusedOption. An option that no cache is given has the store's name. */
const NAMES: readonly string[] = Object.keys(RefusedOption).map((name) => OURS[name] ?? name);

/** The error of a refusal. */
export function refusalError(refusal: NativeRefusal): CairnError | CairnRangeError {
  const { rule, value } = refusal;
  if (rule === RefusedRule.addressSpace) {
    return new CairnError(
      'ERR_OUT_OF_MEMORY',
      `Cannot reserve ${value} bytes of address space, for as much as maxMemoryCeiling (4 x maxMemory) may be`,
    );
  }
  if (rule === RefusedRule.memory) {
    return new CairnError('ERR_OUT_OF_MEMORY', `Cannot commit ${value} bytes of memory: the system has no more`);
  }
  return outOfRange(NAMES[refusal.option]!, expected(refusal), value);
}

function expected({ rule, option, min, max, shards }: NativeRefusal): Expectation {
  switch (rule) {
    case RefusedRule.range:
      if (option !== RefusedOption.memoryBytes || max === Number.POSITIVE_INFINITY) return range(min, max);
      return (say) => `between ${min} and ${say('maxMemoryCeiling')} (${max})`;
    case RefusedRule.powerOfTwo:
      return `a power of two, ${range(min, max)}`;
    case RefusedRule.shardShare:
      return `${range(min * shards, max * shards)}, ${range(min, max)} in each of ${shards} shards`;
    case RefusedRule.shardCapacity:
      return `${range(0, max)}, half of what one of the shards can hold`;
    case RefusedRule.valuesFit:
      return `enough for values of ${min} bytes in each of ${shards} shards`;
    default:
      return range(min, max);
  }
}

function range(min: number, max: number): string {
  if (max === Number.POSITIVE_INFINITY) return `at least ${min}`;
  return min === 0 ? `at most ${max}` : `between ${min} and ${max}`;
}
