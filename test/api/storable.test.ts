// What set stores every reader can read again; what no reader could is refused when it is stored, by every door.
import vm from 'node:vm';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Cache, type StoreResult } from '../../src/index.ts';
import { withCode } from '../support/errors.ts';

let cache: Cache;
beforeEach(() => {
  cache = new Cache({ maxMemory: '16mb' });
});
afterEach(() => cache.close());

const WRAPS: Record<string, (inner: unknown) => unknown> = {
  object: (inner) => ({ next: inner }),
  array: (inner) => [inner],
  map: (inner) => new Map([['next', inner]]),
  set: (inner) => new Set([inner]),
  cause: (inner) => new Error('wrapped', { cause: inner }),
  property: (inner) => Object.assign(new Error('wrapped'), { inner }),
  'sparse array': (inner) => {
    const sparse: unknown[] = [];
    sparse[5000] = inner;
    return sparse;
  },
};

/** A value of that many levels; one that JSON cannot keep. */
function nest(depth: number, wrap: (inner: unknown) => unknown): unknown {
  let value: unknown = new Date(0);
  for (let level = 1; level < depth; level++) value = wrap(value);
  return value;
}

/** What each verb that stores does with a value. */
const DOORS: Record<string, (value: unknown) => unknown> = {
  set: (value) => cache.set('k', value),
  add: (value) => cache.add('k', value),
  replace: (value) => cache.replace('present', value),
  cas: (value) => cache.cas('present', value, cache.getWithCas('present')!.cas),
  update: (value) => cache.update('k', () => value),
  'promises.set': (value) => cache.promises.set('k', value),
  'promises.add': (value) => cache.promises.add('k', value),
  'promises.update': (value) => cache.promises.update('k', () => value),
  fetch: (value) => cache.fetch('k', () => value),
};

/** The error of a call, which may throw or reject. */
async function errorOf(call: () => unknown): Promise<unknown> {
  try {
    await call();
  } catch (error) {
    return error;
  }
  throw new Error('Expected an error');
}

describe('a value that is nested deeply', () => {
  test.each(Object.keys(WRAPS))('as %s, up to 1000 levels, is read again', (kind) => {
    const levels = kind === 'property' ? 300 : 1000;
    expect(cache.set('k', nest(levels, WRAPS[kind]!))).toBe('stored');
    expect(cache.get('k')).toBeTypeOf('object');
    expect([...cache.values()]).toHaveLength(1);
    expect(cache.take('k')).toBeTypeOf('object');
  });

  test.each(Object.keys(DOORS))('is refused by %s where a reader might lack the stack for it', async (door) => {
    for (const kind of ['object', 'map', 'cause']) {
      cache.set('present', 1);
      const error = await errorOf(() => DOORS[door]!(nest(1001, WRAPS[kind]!)));
      expect(error).toEqual(withCode('ERR_VALUE_NOT_STORABLE', /at most 1000 deep.*got 1001 levels/));
      expect(cache.has('k')).toBe(false);
    }
  });

  test('counts the path by which V8 comes to an object that is held twice', () => {
    const shared = nest(600, WRAPS['object']!);
    // V8 meets it at the shallow place first, and writes a reference at the deep one.
    expect(cache.set('k', { first: shared, second: nest(600, WRAPS['object']!) })).toBe('stored');
    let deep: unknown = shared;
    for (let level = 0; level < 600; level++) deep = { next: deep };
    expect(() => cache.set('k', { deep, shared })).toThrow(withCode('ERR_VALUE_NOT_STORABLE'));
    expect(cache.set('k', { shared, deep })).toBe('stored');
    expect(cache.get('k')).toBeTypeOf('object');
  });

  test('that the caller has no stack left to read throws RangeError and stays', () => {
    cache.set('k', nest(900, WRAPS['object']!));
    const dive = (): unknown => {
      try {
        return dive();
      } catch {
        return cache.take('k');
      }
    };
    let outcome: unknown;
    try {
      outcome = dive();
    } catch (error) {
      outcome = error;
    }
    // Either the innermost call had the stack or it got the engine's own error; never a value that is called damaged.
    if (outcome instanceof Error) {
      expect(outcome).toBeInstanceOf(RangeError);
      expect(outcome).not.toHaveProperty('code');
      expect(cache.take('k')).toBeTypeOf('object');
    }
  });
});

describe('an error', () => {
  class Refused extends Error {
    override name = 'Refused';
    code = 'E_REFUSED';
  }
  class Named extends Error {}
  Object.defineProperty(Named.prototype, 'name', { value: 'Named' });
  const stored = (value: unknown): Cache => {
    cache.setMany([['k', value]]);
    return cache;
  };
  const doors: Record<string, (error: Error) => unknown> = {
    get: (error) => stored(error).get('k'),
    getMany: (error) => stored(error).getMany(['k'])[0],
    'promises.get': (error) => stored(error).promises.get('k'),
    'promises.set': async (error) => {
      await cache.promises.set('k', error);
      return cache.get('k');
    },
    fetch: (error) => {
      cache.clear();
      return cache.fetch('k', () => error);
    },
    'a walk': (error) => [...stored(error).values()][0],
    'a dump': (error) => {
      cache.set('k', error);
      using other = new Cache();
      other.load(cache.dump());
      return other.get('k');
    },
    'within a value': (error) => (stored({ list: [error] }).get('k') as { list: Error[] }).list[0],
  };

  test.each(Object.keys(doors))('keeps its name and its own properties through %s', async (door) => {
    const through = async (error: Error) => (await doors[door]!(error)) as Error & Record<string, unknown>;
    const system = Object.assign(new Error('no such file'), { errno: -2, code: 'ENOENT', path: '/no' });
    expect({ ...(await through(system)) }).toEqual({ errno: -2, code: 'ENOENT', path: '/no' });

    const refused = await through(new Refused('no'));
    expect([refused.name, refused.code, refused.message]).toEqual(['Refused', 'E_REFUSED', 'no']);
    expect(refused).toBeInstanceOf(Error);
    expect((await through(new Named('x'))).name).toBe('Named');
    expect(Object.keys(await through(new Named('x')))).toEqual([]);

    const inner = Object.assign(new TypeError('inner'), { status: 502 });
    const both = await through(new AggregateError([inner, 'text'], 'both', { cause: inner }));
    expect(both).toBeInstanceOf(AggregateError);
    expect(both['errors']).toEqual([expect.objectContaining({ message: 'inner', status: 502 }), 'text']);
    expect(both.cause).toBe((both['errors'] as unknown[])[0]);
    expect((both.cause as { status: number }).status).toBe(502);
  });

  test('that refers to itself is kept', () => {
    const error: Error & { self?: unknown } = new Error('round');
    error.self = { error };
    cache.set('k', error);
    const back = cache.get('k') as { self: { error: unknown } };
    expect(back.self.error).toBe(back);
  });

  test('with a property that cannot be stored is refused, with the place', () => {
    const error = Object.assign(new Error('http'), { config: { adapter: () => 1 } });
    expect(() => cache.set('k', error)).toThrow(withCode('ERR_VALUE_NOT_STORABLE', /value\.config\.adapter/));
    expect(() => cache.set('k', [new Error('x', { cause: () => 1 })])).toThrow(
      withCode('ERR_VALUE_NOT_STORABLE', /value\[0\]\.cause/),
    );
  });
});

test.each<[string, object]>([
  ['a Map', new Map([[1, 2]])],
  ['a Set', new Set([1])],
  ['a Date', new Date(5)],
  ['a RegExp', /a/g],
])('%s keeps its properties', (_what, value) => {
  cache.set('k', { value: Object.assign(value, { note: new Map([[value, 'itself']]) }) });
  const { value: back } = cache.get('k') as { value: { note: Map<unknown, string> } };
  expect(back.note.get(back)).toBe('itself');
  expect(back).toEqual(value);
});

test('text that ends like the list of left-out properties is text', () => {
  cache.set('k', { at: undefined, text: 'ends with CXT1' });
  expect(cache.get('k')).toEqual({ at: undefined, text: 'ends with CXT1' });
});

describe('bytes that cannot be read any more', () => {
  const transferred = (): Uint8Array => {
    const bytes = new Uint8Array([1, 2, 3]);
    structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
    return bytes;
  };
  const outside = (): Uint8Array => {
    const memory = new (ArrayBuffer as unknown as new (length: number, options: object) => ArrayBuffer)(16, {
      maxByteLength: 16,
    });
    const view = new Uint8Array(memory, 8, 8);
    (memory as ArrayBuffer & { resize(bytes: number): void }).resize(4);
    return view;
  };
  const storing: Record<string, (bytes: Uint8Array) => unknown> = {
    ...DOORS,
    'set within a value': (bytes) => cache.set('k', { list: [bytes] }),
    setMany: (bytes) => cache.setMany([['k', bytes]]),
    'setMany of a generator': (bytes) =>
      cache.setMany(
        (function* () {
          yield ['k', bytes] as const;
        })(),
      ),
    'promises.setMany': (bytes) => cache.promises.setMany([['k', bytes]]),
    append: (bytes) => cache.append('present', bytes),
    prepend: (bytes) => cache.prepend('present', bytes),
    'promises.append': (bytes) => cache.promises.append('present', bytes),
  };

  test.each(Object.keys(storing))('are refused as a value by %s', async (door) => {
    for (const bytes of [transferred(), outside()]) {
      cache.set('present', 'text');
      expect(await errorOf(() => storing[door]!(bytes))).toEqual(withCode('ERR_VALUE_NOT_STORABLE', /transferred/));
      expect(cache.has('k')).toBe(false);
      expect(cache.get('present')).toBe('text');
    }
  });

  test('are refused as a key and as a dump', async () => {
    for (const bytes of [transferred(), outside()]) {
      for (const call of [
        () => cache.set(bytes, 1),
        () => cache.get(bytes),
        () => cache.getMany([bytes]),
        () => cache.getMany(new Set([bytes])),
        () => cache.setMany([[bytes, 1]]),
        () => cache.deleteMany([bytes]),
        () => cache.promises.set(bytes, 1),
        () => cache.promises.getMany([bytes]),
        () => cache.fetch(bytes, () => 1),
        () => cache.load(bytes),
      ]) {
        expect(await errorOf(call)).toEqual(withCode('ERR_INVALID_ARGUMENT'));
      }
    }
  });

  test('are not mistaken for empty views, which are stored', () => {
    expect(cache.set('k', new Uint8Array(0))).toBe('stored');
    expect(cache.set('l', { bytes: new Uint8Array(4).subarray(4), view: new DataView(new ArrayBuffer(0)) })).toBe(
      'stored',
    );
  });
});

describe('values that another context has made', () => {
  const other = vm.createContext({});
  test.each([
    '({ a: 1 })',
    '({})',
    '[1, 2]',
    '[]',
    '({ a: [1, { b: [] }] })',
    'new Uint8Array([97])',
    'new (class extends Array {})',
    'new (class Row { constructor() { this.a = 1; } })',
    'Object.create(null)',
    '({ at: undefined })',
    'new Map([[1, 2]])',
    "Object.assign(new Error('no'), { code: 5 })",
    "new AggregateError([1], 'both')",
    'new (class extends Uint8Array {})(2)',
  ])('are kept as the same kind: %s', (code) => {
    const here = vm.runInThisContext(code) as unknown;
    const there = vm.runInContext(code, other) as unknown;
    cache.set('here', here);
    cache.set('there', there);
    expect(cache.info('there')!.kind).toBe(cache.info('here')!.kind);
    expect(cache.get('there')).toEqual(cache.get('here'));
  });

  test('are pieces, keys, entries and dumps like those of this one', async () => {
    const bytes = vm.runInContext('new Uint8Array([97])', other) as Uint8Array;
    const answers: StoreResult[] = [cache.set(bytes, 'text'), cache.append('a', bytes), cache.prepend('a', bytes)];
    answers.push(await cache.promises.append('a', bytes));
    expect(answers).toEqual(['stored', 'stored', 'stored', 'stored']);
    expect(cache.get('a')).toBe('atextaa');
    expect(cache.setMany(vm.runInContext("new Map([['m', 1]])", other) as Map<string, number>)).toEqual(['stored']);
    expect(cache.set('raw', bytes)).toBe('stored');
    expect(cache.info('raw')!.kind).toBe('bytes');
  });
});

test.each([
  ['Array', Array.prototype, [1, 2]],
  ['Object', Object.prototype, { list: [1, 2] }],
])('a toJSON on %s.prototype changes nothing of what is stored', (_name, prototype, value) => {
  for (const enumerable of [true, false]) {
    Object.defineProperty(prototype, 'toJSON', { value: () => 'changed', configurable: true, enumerable });
    try {
      cache.set('k', value);
      cache.set('nested', { value });
    } finally {
      Reflect.deleteProperty(prototype, 'toJSON');
    }
    expect(cache.get('k')).toEqual(value);
    expect(cache.get('nested')).toEqual({ value });
  }
});

describe('a value that the handle cannot decode', () => {
  let parsed: Cache;
  beforeEach(async () => {
    await cache.close();
    cache = new Cache({ name: 'undecodable' });
    parsed = Cache.attach('undecodable', { raw: 'json' });
    cache.set('k', Buffer.from('no json'), { ttl: '1h' });
  });

  test('stays when take comes to it', async () => {
    expect(() => parsed.take('k')).toThrow(withCode('ERR_VALUE_MALFORMED'));
    expect(cache.get('k')).toEqual(Buffer.from('no json'));
    await expect(parsed.promises.take('k')).rejects.toThrow(withCode('ERR_VALUE_MALFORMED'));
    expect(cache.get('k')).toEqual(Buffer.from('no json'));
    expect(cache.getRemainingTTL('k')).toBeGreaterThan(3_500_000);
    expect(cache.take('k')).toEqual(Buffer.from('no json'));
    expect(cache.take('k')).toBeUndefined();
  });

  test('stays with its flags when a function of the user throws', async () => {
    const picky = Cache.attach('undecodable', {
      raw: () => {
        throw new Error('mine');
      },
    });
    expect(() => picky.take('k')).toThrow('mine');
    await expect(picky.promises.take('k')).rejects.toThrow('mine');
    expect(cache.get('k')).toEqual(Buffer.from('no json'));
  });

  test('does not come back over a newer one', async () => {
    const taken = parsed.promises.take('k');
    const stored = parsed.promises.set('k', 'newer');
    await expect(taken).rejects.toThrow(withCode('ERR_VALUE_MALFORMED'));
    await stored;
    expect(cache.get('k')).toBe('newer');
  });

  test('is loaded again by fetch, whatever its options', async () => {
    for (const options of [
      {},
      { forceRefresh: true },
      { ttl: '1m', staleIfError: '1h' },
      { ttl: '1m', staleWhileRevalidate: '1h' },
    ]) {
      cache.set('k', Buffer.from('no json'));
      expect(await parsed.fetch('k', () => ({ loaded: 1 }), options)).toEqual({ loaded: 1 });
      expect(parsed.get('k')).toEqual({ loaded: 1 });
    }
  });
});
