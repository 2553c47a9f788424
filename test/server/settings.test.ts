import { describe, expect, test } from 'vitest';
import { hasNativeFront, processorCount } from '../../src/server/native-front.ts';
import { MEMORY_ONLY, resolveServeOptions, type ServedCache } from '../../src/server/settings.ts';
import { withCode } from '../support/errors.ts';

describe('where a server listens', () => {
  const listeners = (options: object) => resolveServeOptions(options).listeners;
  const tcp = (host: string, port = 11211, ack = 'memory') => ({ host, port, optional: false, ack });

  test('loopback only, in both families, unless told otherwise', () => {
    expect(listeners({})).toEqual([tcp('127.0.0.1'), { ...tcp('::1'), optional: true }]);
    expect(listeners({ port: 0 })).toEqual([tcp('127.0.0.1', 0), { ...tcp('::1', 0), optional: true }]);
  });

  test('hosts may bring a port of their own', () => {
    expect(listeners({ host: '10.0.0.5' })).toEqual([tcp('10.0.0.5')]);
    expect(listeners({ host: ['10.0.0.5:11212', 'localhost'], port: 5 })).toEqual([
      tcp('10.0.0.5', 11212),
      tcp('localhost', 5),
    ]);
    expect(listeners({ host: ['[::1]:11213', '[::1]', '::1', 'fe80::1%eth0'] })).toEqual([
      tcp('::1', 11213),
      tcp('::1'),
      tcp('::1'),
      tcp('fe80::1%eth0'),
    ]);
  });

  test('a path is a unix socket, and TCP is off beside it unless asked for', () => {
    expect(listeners({ path: '/tmp/x' })).toEqual([{ path: '/tmp/x', ack: 'memory' }]);
    expect(listeners({ path: '/tmp/x', port: 5, host: 'a' })).toEqual([{ path: '/tmp/x', ack: 'memory' }, tcp('a', 5)]);
  });

  test('a listener may have its own level; without one it has that of the server', () => {
    const logged = { ack: 'logged', highestAck: 'logged', logMetrics: [] } as const;
    const of = (options: object) => resolveServeOptions(options, logged).listeners;
    expect(of({ host: ['127.0.0.1', 'memory:127.0.0.1:11212', 'logged:::1', 'memory:[::1]:5', 'memory:box'] })).toEqual(
      [
        tcp('127.0.0.1', 11211, 'logged'),
        tcp('127.0.0.1', 11212, 'memory'),
        tcp('::1', 11211, 'logged'),
        tcp('::1', 5, 'memory'),
        tcp('box', 11211, 'memory'),
      ],
    );
    expect(of({ host: ['127.0.0.1', 'logged:10.0.0.5'], path: '/tmp/x', ack: 'memory' })).toEqual([
      { path: '/tmp/x', ack: 'memory' },
      tcp('127.0.0.1', 11211, 'memory'),
      tcp('10.0.0.5', 11211, 'logged'),
    ]);
    // A machine may be called that.
    expect(of({ host: 'memory:5' })).toEqual([tcp('memory', 5, 'logged')]);
    expect(of({ host: 'logged' })).toEqual([tcp('logged', 11211, 'logged')]);
    expect(listeners({ host: 'memory:10.0.0.5' })).toEqual([tcp('10.0.0.5')]);
  });

  test("memcached's prefixes are for one listener, in any order, each kind once", () => {
    const of = (...host: string[]) => resolveServeOptions({ host, tls: { cert: 'c', ca: 'a' } }).listeners;
    const tls = (host: string, verify: string | undefined, protocol?: string, port = 11211) => ({
      ...tcp(host, port),
      ...{ tls: verify, protocol },
    });
    expect(of('::1', 'notls:[::1]:5', 'mtls:box', 'btls:10.0.0.5:6')).toEqual([
      ...[tls('::1', 'none'), tls('::1', undefined, undefined, 5), tls('box', 'require')],
      tls('10.0.0.5', 'none', undefined, 6),
    ]);
    expect(of('proto[ascii]:notls:a:5', 'tag[x1]:memory:proto[binary]:[::1]', 'proto[negotiating]:a')).toEqual([
      ...[tls('a', undefined, 'ascii', 5), tls('::1', 'none', 'binary'), tls('a', 'none', 'auto')],
    ]);
    const wrong = (host: string, message: RegExp) =>
      expect(() => of(host)).toThrow(withCode('ERR_INVALID_ARGUMENT', message));
    wrong('notls:mtls:a', /^Expected host to be an address with one prefix of a kind, got "notls:mtls:a"$/);
    wrong('tag[a]:tag[b]:x', /one prefix of a kind/);
    wrong('proto[proxy]:a', /proto\[ascii\], proto\[binary\] or proto\[auto\]/);
    wrong('proto[constructor]:a', /proto\[ascii\]/);
    wrong('prot[ascii]:a', /an address, a name, or one of them with a port/);
    // Machines may be called so.
    expect(listeners({ host: ['notls:5', 'tag'] })).toEqual([tcp('notls', 5), tcp('tag')]);
  });
});

describe('options that are wrong are refused by name', () => {
  test.each([
    [{ port: -1 }, 'Expected port to be an integer between 0 and 65535, got -1'],
    [{ port: 65_536 }, 'Expected port to be an integer between 0 and 65535, got 65536'],
    [{ port: '11211' }, 'Expected port to be an integer of at least 0, got "11211"'],
    [{ host: [] }, 'Expected host to be at least one address, got []'],
    [{ host: 7 }, 'Expected host to be a string or an array of strings, got 7'],
    [{ host: 'a b' }, 'Expected host to be an address, a name, or one of them with a port, got "a b"'],
    [{ host: 'a:99999' }, 'Expected the port of "a:99999" to be at most 65535, got 99999'],
    [
      { host: 'logged:10.0.0.5' },
      `Expected host to be at the level 'memory', the only level of a cache without a log, got "logged:10.0.0.5"`,
    ],
    [{ host: 'memory:a b' }, 'Expected host to be an address, a name, or one of them with a port, got "a b"'],
    [{ path: '' }, 'Expected path to be the path of a socket, got ""'],
    [{ pathMode: 0o1000 }, 'Expected pathMode to be an integer between 0 and 511, got 512'],
    [{ maxConnections: 0 }, 'Expected maxConnections to be an integer between 1 and 1000000, got 0'],
    [{ maxItemSize: 1023 }, 'Expected maxItemSize to be between 1kb and 1gb, got 1023'],
    [{ maxItemSize: '2gb' }, 'Expected maxItemSize to be between 1kb and 1gb, got "2gb"'],
    [{ stallTimeout: 0 }, 'Expected stallTimeout to be between 1 ms and 2147483647 ms, got 0'],
    [{ largeRequest: -1 }, 'Expected largeRequest to be a positive integer of bytes, or text such as "512mb"'],
    [{ slowRequest: '30 days' }, 'Expected slowRequest to be'],
    [{ idleTimeout: '30 days' }, 'Expected idleTimeout to be'],
    [{ prefixDelimiter: '::' }, 'Expected prefixDelimiter to be one visible character of ASCII, got "::"'],
    [{ protocol: 'meta' }, `Expected protocol to be 'auto' or 'ascii' or 'binary', got "meta"`],
    [{ testCommands: 1 }, 'Expected testCommands to be true or false, got 1'],
    [{ maxConns: 1 }, 'Unknown option "maxConns"'],
  ])('%j', (options, message) => {
    expect(() => resolveServeOptions(options as never)).toThrow(message);
    try {
      resolveServeOptions(options as never);
    } catch (error) {
      expect((error as { code: string }).code).toBe('ERR_INVALID_ARGUMENT');
    }
  });

  test.each([0, '0', undefined])('%j turns the list of large requests off', (largeRequest) => {
    expect(resolveServeOptions({ largeRequest }).largeRequestBytes).toBe(0);
  });

  test('what may be given is kept', () => {
    expect(
      resolveServeOptions({
        maxItemSize: '2mb',
        maxConnections: 5,
        idleTimeout: '1m',
        stallTimeout: 500,
        backlog: 10,
        verbosity: 2,
        threads: 3,
        protocol: 'ascii',
        testCommands: true,
        pathMode: 0o770,
      }),
    ).toMatchObject({
      itemBytesMax: 2 * 2 ** 20,
      maxConnections: 5,
      idleTimeoutMs: 60_000,
      stallTimeoutMs: 500,
      backlog: 10,
      verbosity: 2,
      threads: 3,
      protocol: 'ascii',
      testCommands: true,
      pathMode: 0o770,
    });
  });
});

describe('maxOutput', () => {
  const MIB = 2 ** 20;
  const served = (memoryBytes: number): ServedCache => ({ ...MEMORY_ONLY, memoryBytes });

  test('is a quarter of the memory, has room for large values, and is never small', () => {
    expect(resolveServeOptions({}, served(64 * MIB)).outputBytesMax).toBe(16 * MIB);
    expect(resolveServeOptions({}, served(4 * MIB)).outputBytesMax).toBe(16 * MIB);
    expect(resolveServeOptions({}, served(1024 * MIB)).outputBytesMax).toBe(256 * MIB);
    expect(resolveServeOptions({ maxItemSize: '100mb' }, served(64 * MIB)).outputBytesMax).toBe(400 * MIB);
    expect(resolveServeOptions({ maxOutput: '2mb' }, served(1024 * MIB)).outputBytesMax).toBe(2 * MIB);
  });

  test('is not less than 1 MiB', () => {
    expect(() => resolveServeOptions({ maxOutput: 1000 })).toThrow(withCode('ERR_INVALID_ARGUMENT', /maxOutput/));
  });
});

describe('the front', () => {
  const clocked: ServedCache = { ack: 'memory', highestAck: 'memory', logMetrics: [], tick: () => {} };

  test('is that of the platform, with a thread for each processor', () => {
    const { front, threads } = resolveServeOptions({});
    expect(front).toBe(hasNativeFront() ? 'native' : 'node');
    expect(threads).toBe(front === 'native' ? processorCount() : 1);
    expect(resolveServeOptions({ front: 'node', threads: 4 })).toMatchObject({ front: 'node', threads: 1 });
  });

  test('of a cache with a clock is node:net: only its own thread may ask that', () => {
    expect(resolveServeOptions({}, clocked)).toMatchObject({ front: 'node', threads: 1 });
    expect(() => resolveServeOptions({ front: 'native' }, clocked)).toThrow(
      withCode('ERR_INVALID_ARGUMENT', hasNativeFront() ? /front.*'node', since the cache has a clock/ : /no other/),
    );
    expect(() => resolveServeOptions({ front: 'epoll' as never })).toThrow(/front/);
  });
});
