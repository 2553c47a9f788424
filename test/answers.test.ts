// Errors that no cache gives yet without a database behind it, or only in a race.
import { expect, test } from 'vitest';
import { answerError } from '../src/answers.ts';
import { Code, type NativeHandle } from '../src/native.ts';

const handle = { name: '', valueBytesMax: 1 } as NativeHandle;

test('a verb that depends on a value which is not in memory names the promised verb that loads it', () => {
  expect(answerError(handle, Code.notResident, { key: 'k', verb: 'incr' })).toMatchObject({
    code: 'ERR_NOT_RESIDENT',
    message: 'The value of "k" is not in memory: cache.promises.incr() loads it first',
  });
  expect(answerError(handle, Code.notResident, { key: 'k' }).message).toBe(
    'The value of "k" is not in memory: the same verb of cache.promises loads it first',
  );
});
