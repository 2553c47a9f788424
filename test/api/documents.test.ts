// docs/api.md is complete: every export, method, option and error code of the package is in it, and nothing else is.
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import * as cairn from '../../src/index.ts';
import { membersOf } from '../support/members.ts';

const document = readFileSync(new URL('../../docs/api.md', import.meta.url), 'utf8');
const code = [...document.replaceAll(/```.*?```/gs, '').matchAll(/`([^`]+)`/g)].map(([, text]) => text!).join('\n');

/** The first cells of the table with that heading, without backticks. */
function firstCells(heading: string): string[] {
  const lines = document.split('\n');
  const start = lines.findIndex((line) => line.startsWith(`| ${heading} |`));
  expect(start, heading).toBeGreaterThan(0);
  const cells: string[] = [];
  for (let i = start + 2; lines[i]?.startsWith('|'); i++)
    cells.push(lines[i]!.split(' | ')[0]!.slice(2).replaceAll('`', ''));
  return cells;
}

describe('docs/api.md', () => {
  test('has every export', () => {
    expect(Object.keys(cairn).filter((name) => !new RegExp(`\\b${name}\\b`).test(document))).toEqual([]);
  });

  test('has every method and property of Cache', () => {
    const names = [
      ...membersOf(cairn.Cache.prototype).map(({ name }) => name),
      ...Object.getOwnPropertyNames(cairn.Cache).filter((name) => !['length', 'name', 'prototype'].includes(name)),
    ];
    expect(names.length).toBeGreaterThan(40);
    expect(names.filter((name) => !new RegExp(`\\b${name}\\b`).test(code))).toEqual([]);
  });

  test('has every option, as a cache refuses all others', () => {
    let listed = '';
    try {
      new cairn.Cache({ zzzzzzzz: 1 } as never);
    } catch (error) {
      listed = /expected one of (.*)$/.exec((error as Error).message)![1]!;
    }
    expect(firstCells('Option').sort()).toEqual(listed.split(', ').sort());
  });

  test('has every option of serve, as it refuses all others', async () => {
    using cache = new cairn.Cache({ maxMemory: '4mb' });
    const error = await cairn.serve(cache, { zzzzzzzzzzzz: 1 } as never).catch((reason: Error) => reason);
    const [, listed = ''] = /expected one of (.*)$/.exec((error as Error).message) ?? [];
    const names = firstCells('Option of listen').flatMap((cell) => cell.split(', '));
    expect(names.sort()).toEqual(listed.split(', ').sort());
  });

  test('has every option of fetch, as it refuses all others', async () => {
    using cache = new cairn.Cache({ maxMemory: '4mb' });
    const error = await cache.fetch('a', () => 1, { zzzzzzzzzzzz: 1 } as never).catch((reason: Error) => reason);
    const [, listed = ''] = /expected one of (.*)$/.exec((error as Error).message) ?? [];
    // A single fetch may have those of fetchMany: with `collect` its loader takes many keys.
    const ofMany = firstCells('Option of fetchMany').filter((cell) => !cell.includes('fetch'));
    const names = [...firstCells('Option of fetch'), ...ofMany].flatMap((cell) => cell.split(', '));
    expect(names.sort()).toEqual(listed.split(', ').sort());
  });

  test('has what a server and cache.promises have', () => {
    using cache = new cairn.Cache({ maxMemory: '4mb' });
    const internal = [
      'constructor',
      'start',
      'close',
      'destroy',
      'handleClosed',
      'removeAllListeners',
      'router',
      'length',
      'name',
      'prototype',
    ];
    const names = [cairn.MemcachedServer, cairn.MemcachedServer.prototype, Object.getPrototypeOf(cache.promises)]
      .flatMap((each) => Object.getOwnPropertyNames(each))
      .filter((name) => !internal.includes(name));
    expect(names).toContain('connectionCount');
    expect(names.filter((name) => !new RegExp(`\\b${name}\\b`).test(code))).toEqual([]);
  });

  test('has every error code with its kind', () => {
    const rows = firstCells('Code').map((name) => {
      const kind = new RegExp(`\\| \`${name}\` \\| (\\w+) \\|`).exec(document)![1];
      return [name, kind];
    });
    const error = (name: string) => new cairn.CairnError(name as cairn.ErrorCode, '');
    for (const [name, kind] of rows) expect(cairn.errorKind(error(name!)), name).toBe(kind);
    const source = readFileSync(new URL('../../src/errors.ts', import.meta.url), 'utf8');
    expect(rows.map(([name]) => name).sort()).toEqual([...new Set(source.match(/ERR_[A-Z_]+/g))].sort());
  });
});

test('every error code is one that something raises', () => {
  const folder = new URL('../../src/', import.meta.url);
  const sources = readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && file !== 'errors.ts')
    .map((file) => readFileSync(new URL(file, folder), 'utf8'))
    .join('\n');
  const codes = readFileSync(new URL('errors.ts', folder), 'utf8').match(/ERR_[A-Z_]+/g)!;
  expect([...new Set(codes)].filter((name) => !sources.includes(`'${name}'`))).toEqual([]);
});

test('errorKind knows our errors from others', () => {
  expect(cairn.errorKind(new Error('x'))).toBeUndefined();
  expect(cairn.errorKind(Object.assign(new Error('x'), { code: 'ENOENT' }))).toBeUndefined();
  expect(cairn.errorKind(Object.assign(new Error('x'), { code: 'toString' }))).toBeUndefined();
  expect(cairn.errorKind('ERR_CLOSED')).toBeUndefined();
  expect(cairn.errorKind(new cairn.CairnError('ERR_CLOSED', 'x'))).toBe('refused');
  expect(new cairn.CairnTypeError('ERR_INVALID_ARGUMENT', 'x')).toBeInstanceOf(TypeError);
  expect(new cairn.CairnRangeError('ERR_INVALID_ARGUMENT', 'x')).toBeInstanceOf(RangeError);
});
