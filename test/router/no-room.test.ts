// update(), on both surfaces, where the store has no room for the new value.
import { afterEach, expect, test, vi } from 'vitest';
import { Cache } from '../../src/cache.ts';
import { Code, type NativeHandle, native } from '../../src/native.ts';
import { Block } from '../../src/request/batch.ts';
import { withCode } from '../support/errors.ts';

afterEach(() => vi.restoreAllMocks());

test('an update that finds no room says so, and does not try a thousand times', async () => {
  const open = native.openCache;
  let handle: NativeHandle | undefined;
  native.openCache = (options) => {
    handle = open(options) as NativeHandle;
    const { store } = handle;
    let calls = 0;
    // The first write is one of the test's.
    handle.store = (...request) => (calls++ === 0 ? store(...request) : Code.noMemory);
    return handle;
  };
  try {
    using full = new Cache();
    const noRoom = withCode('ERR_OUT_OF_MEMORY', /^Cannot update "k": there is no room for its value now/);
    full.set('k', 1);
    let changes = 0;
    expect(() => full.update('k', () => ++changes)).toThrow(noRoom);
    expect(() => full.update('none', () => 1)).toThrow(/^Cannot update "none": there is no room/);
    expect(changes).toBe(1);
    // What the lane's thread answers: there is no entry, which is looked at twice, and no room for one.
    vi.spyOn(Block.prototype, 'status')
      .mockReturnValueOnce(Code.notFound)
      .mockReturnValueOnce(Code.notFound)
      .mockReturnValue(Code.noMemory);
    await expect(full.promises.update('k', () => 1)).rejects.toThrow(noRoom);
  } finally {
    native.openCache = open;
  }
});
