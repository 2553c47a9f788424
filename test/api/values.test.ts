// docs/values.md, cell by cell: each row of its tables is looked up here by its first cell, stored, and read through
// both doors; the cells are compared with what happens.
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Cache, type MemcachedServer, type RawOption, serve } from '../../src/index.ts';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { expectSame } from '../support/same.ts';

class Point {
  x = 1;
  label = 'here';
}

/** What the first table names, by its first cell. */
const STORED: Record<string, unknown> = {
  "`'text'`": 'text',
  "`'42'`": '42',
  "`'grün'`": 'grün',
  "`'a\\ud800'`, a lone surrogate": 'a\ud800',
  '`42`': 42,
  '`1.5`': 1.5,
  '`-7`': -7,
  '`-0`': -0,
  '`NaN`': Number.NaN,
  '`1e21`': 1e21,
  '`12345678901234567890n`': 12345678901234567890n,
  '`-5n`': -5n,
  '`true`': true,
  '`null`': null,
  "`{ id: 1, tags: ['a'] }`": { id: 1, tags: ['a'] },
  "`[1, null, 'x']`": [1, null, 'x'],
  "`Buffer.from('abc')`": Buffer.from('abc'),
  '`new Uint8Array([97])`': new Uint8Array([97]),
  '`{ at: undefined }`': { at: undefined },
  '`[0, -0]`': [0, -0],
  '`new Date(0)`': new Date(0),
  "`new Map([['a', 1]])`": new Map([['a', 1]]),
  '`new Set([1])`': new Set([1]),
  '`new Float64Array([1.5])`': new Float64Array([1.5]),
  '`/a+/gi`': /a+/gi,
  "`new Error('no')`": new Error('no'),
  "`{ bytes: Buffer.from('a') }`": { bytes: Buffer.from('a') },
  'an instance of a class with fields': new Point(),
};

const fromPython = (bytes: Buffer, flags: number): unknown => {
  if (flags & 16) return bytes.toString();
  if (flags & 2) return Number(bytes);
  if (flags & 4) return BigInt(bytes.toString());
  return bytes;
};

const document = readFileSync(new URL('../../docs/values.md', import.meta.url), 'utf8');

/** The rows of the table whose first heading is `heading`. */
function table(heading: string): string[][] {
  const lines = document.split('\n');
  const start = lines.findIndex((line) => line.startsWith(`| ${heading} |`));
  expect(start, heading).toBeGreaterThan(0);
  const rows: string[][] = [];
  for (let i = start + 2; lines[i]?.startsWith('|'); i++) {
    rows.push(
      lines[i]!.slice(2, -2)
        .split(' | ')
        .map((cell) => cell.trim()),
    );
  }
  return rows;
}

/** The bytes that a cell names: `text`, `text` in UTF-8, hexadecimal pairs. */
function bytesOf(cell: string): Buffer {
  const hex = /`((?:[0-9a-f]{2} )+[0-9a-f]{2})`/.exec(cell)?.[1];
  if (hex !== undefined) return Buffer.from(hex.replaceAll(' ', ''), 'hex');
  return Buffer.from(/`(.*)`/.exec(cell)![1]!, 'utf8');
}

const name = 'values';
let cache: Cache;
let server: MemcachedServer;
let client: MemcachedSocket;
beforeAll(async () => {
  cache = new Cache({ name });
  server = await serve(cache as Cache<never>, { port: 0, host: '127.0.0.1' });
  const address = server.addresses.find((each) => 'port' in each);
  client = await MemcachedSocket.open(address!.port!);
});
afterAll(async () => {
  client.destroy();
  server.destroy();
  await server.close();
  await cache.close();
});

/** The value that the port serves, with its flags. */
async function served(key: string): Promise<{ bytes: Buffer; flags: number } | undefined> {
  const answer = Buffer.from(await client.ask(`get ${key}\r\n`, 'END\r\n'), 'latin1');
  if (answer.equals(Buffer.from('END\r\n'))) return undefined;
  const head = answer.indexOf('\r\n');
  const [, , flags, length] = answer.toString('latin1', 0, head).split(' ');
  return { bytes: answer.subarray(head + 2, head + 2 + Number(length)), flags: Number(flags) };
}

async function storeThroughPort(key: string, bytes: Buffer, flags = 0): Promise<void> {
  client.send(`set ${key} ${flags} 0 ${bytes.length}\r\n`);
  client.send(bytes);
  expect(await client.ask('\r\n')).toBe('STORED\r\n');
}

describe('what JavaScript stores', () => {
  const rows = table('You store');

  test('the table has the rows that are tested', () => {
    expect(rows.map(([first]) => first)).toEqual(Object.keys(STORED));
  });

  test.each(rows)('%s is kept as %s', async (label, kind, gives, port, append, incr) => {
    const value = STORED[label];
    cache.set('k', value);
    expect(cache.info('k')).toMatchObject({ kind, flags: 0 });

    const back = cache.get('k');
    switch (gives) {
      case 'the same':
        expect(back).toBe(value);
        break;
      case 'a Buffer of the same bytes':
        expect(back).toEqual(Buffer.from(value as Uint8Array));
        break;
      case 'a plain object with its fields':
        expectSame(back, { ...(value as object) });
        break;
      default: {
        const type = /^an equal (.*)$/.exec(gives!)![1]!;
        expectSame(back, value);
        expect(back).not.toBe(value);
        const tag =
          { object: 'Object', array: 'Array', Buffer: 'Uint8Array', 'typed array': 'Float64Array' }[type] ?? type;
        expect(Object.prototype.toString.call(back)).toBe(`[object ${tag}]`);
      }
    }

    const wire = await served('k');
    expect(wire?.flags).toBe(0);
    if (port === "V8's structured clone format") expect(wire?.bytes[0]).toBe(0xff);
    else if (port === 'what `JSON.stringify` gives') expect(wire?.bytes.toString()).toBe(JSON.stringify(value));
    else expect(wire?.bytes).toEqual(bytesOf(port!));

    const wanted = append === 'yes' ? 'stored' : 'not-stored';
    expect(cache.append('k', 'x')).toBe(wanted);
    cache.set('k', value);
    expect(await client.ask('append k 0 0 1\r\nx\r\n')).toBe(append === 'yes' ? 'STORED\r\n' : 'NOT_STORED\r\n');
    expect((await served('k'))?.bytes.at(-1)).toBe(append === 'yes' ? 0x78 : wire?.bytes.at(-1));

    cache.set('k', value);
    const counted = cache.incr('k', 1n);
    if (incr === 'yes') expect(String(counted)).toBe(String(BigInt(wire!.bytes.toString()) + 1n));
    else expect(counted).toBe('not-stored');
    cache.set('k', value);
    const answer = await client.ask('incr k 1\r\n');
    if (incr === 'yes') expect(answer).toBe(`${BigInt(wire!.bytes.toString()) + 1n}\r\n`);
    else expect(answer).toBe('CLIENT_ERROR cannot increment or decrement non-numeric value\r\n');
    if (incr === 'yes') expect(typeof cache.get('k')).toBe(typeof value);
    else expectSame(cache.get('k'), back);
  });
});

describe('what memcached clients store', () => {
  const EXPECTED: Record<string, unknown> = {
    "`Buffer.from('text')`": Buffer.from('text'),
    "`Buffer.from('42')`": Buffer.from('42'),
    '`Buffer.from(\'{"a":1}\')`': Buffer.from('{"a":1}'),
    '`Buffer.from([0xff, 0x00])`': Buffer.from([0xff, 0x00]),
    "`'text'`": 'text',
    "`'42'`": '42',
    '`\'{"a":1}\'`': '{"a":1}',
    "`'\\ufffd\\0'`": '\ufffd\0',
    '`42`': 42,
    '`{ a: 1 }`': { a: 1 },
    "`Buffer.from('abc')`": Buffer.from('abc'),
    "`'grün'`": 'grün',
    '`12345678901234567890n`': 12345678901234567890n,
  };
  const reads = (cell: string, raw: RawOption) => {
    using attached = Cache.attach(name, { raw });
    if (cell === '`ERR_VALUE_MALFORMED`') {
      expect(() => attached.get('k')).toThrow(expect.objectContaining({ code: 'ERR_VALUE_MALFORMED' }));
      return;
    }
    expect(EXPECTED, cell).toHaveProperty([cell]);
    expectSame(attached.get('k'), EXPECTED[cell], cell);
    expectSame(attached.getMany(['k']), [EXPECTED[cell]], cell);
  };

  test.each(table('A client stores'))('%s with flags %s', async (bytes, flags, buffer, string, json) => {
    await storeThroughPort('k', bytesOf(bytes!), Number(flags));
    expect(cache.info('k')).toMatchObject({ kind: 'bytes', flags: Number(flags) });
    reads(buffer!, 'buffer');
    reads(string!, 'string');
    reads(json!, 'json');
  });

  test.each(table('pymemcache stores'))(
    'pymemcache stores %s with flags %s',
    async (_label, flags, bytes, expected) => {
      await storeThroughPort('k', bytesOf(bytes!), Number(flags));
      reads(expected!, fromPython);
    },
  );

  test('the function of the page is the one that is tested', () => {
    const text = (code: string) =>
      code.replaceAll(/\s+/g, ' ').replaceAll(/: (Buffer|number|unknown)|\.toString\(\)(?=\);\n? *return)/g, '');
    for (const line of [
      'if (flags & 16) return bytes.toString();',
      'if (flags & 2) return Number(bytes);',
      'return bytes;',
    ]) {
      expect(text(document)).toContain(line);
    }
  });

  test('client flags are kept apart from the kind, by every write but set', async () => {
    await storeThroughPort('k', Buffer.from('5'), 77);
    cache.append('k', '0');
    expect(cache.info('k')).toMatchObject({ kind: 'bytes', flags: 77 });
    expect(cache.incr('k')).toBe(51);
    expect(cache.info('k')).toMatchObject({ flags: 77 });
    cache.set('k', 5);
    expect(cache.info('k')).toMatchObject({ kind: 'number', flags: 0 });
    expect((await served('k'))?.flags).toBe(0);
  });

  test('bytes that look like a structured clone, JSON or a number stay bytes', async () => {
    cache.set('clone', new Map([['a', 1]]));
    const clone = (await served('clone'))!.bytes;
    for (const bytes of [clone, Buffer.from('{"a":1}'), Buffer.from('42')]) {
      for (const flags of [0, 1, 7, 15, 0xffffffff]) {
        await storeThroughPort('k', bytes, flags);
        expect(cache.get('k')).toEqual(bytes);
      }
    }
  });

  test('appending to text leaves text while it is UTF-8, bytes otherwise', async () => {
    cache.set('k', 'grü');
    expect(await client.ask('append k 0 0 1\r\nn\r\n')).toBe('STORED\r\n');
    expect(cache.get('k')).toBe('grün');
    client.send('append k 0 0 1\r\n');
    client.send(Buffer.from([0xff]));
    expect(await client.ask('\r\n')).toBe('STORED\r\n');
    expect(cache.get('k')).toEqual(Buffer.concat([Buffer.from('grün'), Buffer.from([0xff])]));
    cache.set('k', 'ascii');
    client.send('append k 0 0 2\r\n');
    client.send(Buffer.from('ü'));
    expect(await client.ask('\r\n')).toBe('STORED\r\n');
    expect(cache.get('k')).toBe('asciiü');
  });
});
