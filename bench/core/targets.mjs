// The figures that this folder has to show, and the verdict on each.

/**
 * `levels` are what is asked for, the least first; `atMost` says that smaller is better. `unit` follows the number.
 * A section reports a target by its id with a summary of the value in every round.
 */
export const targets = [
  { id: 'get-new-uniform', text: 'get of a hit, new key strings, uniform, x lru-cache', levels: [1, 1.2], unit: 'x' },
  { id: 'get-new-zipf', text: 'get of a hit, new key strings, Zipf 0.99, x lru-cache', levels: [1, 1.2], unit: 'x' },
  { id: 'get-kept-uniform', text: 'get of a hit, kept key strings, uniform, x lru-cache', levels: [0.45], unit: 'x' },
  { id: 'get-kept-zipf', text: 'get of a hit, kept key strings, Zipf 0.99, x lru-cache', levels: [0.45], unit: 'x' },
  { id: 'get-read-uniform', text: 'the first, the value looked at', levels: [1, 1.2], unit: 'x' },
  { id: 'get-read-zipf', text: 'the second, the value looked at', levels: [1, 1.2], unit: 'x' },
  { id: 'insert-new', text: 'set of a new key that evicts, new strings, x lru-cache', levels: [1.3], unit: 'x' },
  { id: 'insert-kept', text: 'set of a new key that evicts, kept strings, x lru-cache', levels: [1.3], unit: 'x' },
  { id: 'overwrite-new', text: 'set of a present key, new strings, x lru-cache', levels: [0.6], unit: 'x' },
  { id: 'overwrite-kept', text: 'set of a present key, kept strings, x lru-cache', levels: [0.6], unit: 'x' },
  { id: 'many-arrays', text: 'getMany of 64 with arrays, per key, x get', levels: [1.3], unit: 'x' },
  { id: 'many-packed', text: 'getMany of 64 packed, per key, x get', levels: [2], unit: 'x' },
  { id: 'promises-batch', text: 'promises.getMany of 64, keys/s of the calling thread', levels: [1e6], unit: '/s' },
  { id: 'promises-single', text: 'promises.get, 64 in flight, x one piscina task each', levels: [5], unit: 'x' },
  { id: 'threads-all', text: 'two threads on one cache, x a cache each with all entries', levels: [0.95], unit: 'x' },
  {
    id: 'threads-half',
    text: 'two threads on one cache, x a cache each with half of them',
    levels: [0.85, 0.95],
    unit: 'x',
  },
  { id: 'memory', text: 'RSS beyond key and value, 1 M entries of 20 + 100 B', levels: [40], unit: ' B', atMost: true },
  {
    id: 'stall',
    text: 'longest stall of the event loop, 5 M entries, less the control',
    levels: [5],
    unit: ' ms',
    atMost: true,
  },
];

/** 'met', 'met by the first level' or 'missed', with by how much. `value` is a summary. */
export function judge(target, value) {
  const reaches = (level) => (target.atMost ? value.median <= level : value.median >= level);
  const reached = target.levels.filter(reaches);
  const aim = reached.at(-1) ?? target.levels[0];
  const next = target.levels[reached.length];
  const distance = target.atMost ? aim / value.median : value.median / aim;
  const percent = Math.round(Math.abs(distance - 1) * 100);
  return {
    met: reached.length > 0,
    complete: reached.length === target.levels.length,
    verdict: reached.length > 0 ? 'met by' : 'missed by',
    percent: Number.isFinite(percent) ? percent : undefined,
    aim,
    next: reached.length > 0 ? next : undefined,
  };
}
