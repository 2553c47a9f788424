import { expect, test } from 'vitest';
import { Unanswered } from '../../src/scribe/index.ts';

test('a command whose caller does not wait any more is not asked again, and its answer is ignored', async () => {
  const unanswered = new Unanswered<{ id: number }>();
  const controller = new AbortController();
  let cancelled = 0;
  const first = unanswered.add({ id: 1 }, controller.signal, () => cancelled++);
  const second = unanswered.add({ id: 2 }, controller.signal, () => cancelled++);
  const third = unanswered.add({ id: 3 });
  unanswered.settle({ id: 2, result: 'here', error: undefined });
  controller.abort(new Error('too long'));
  await expect(first).rejects.toThrow('too long');
  expect(await second).toBe('here');
  expect([cancelled, unanswered.count, unanswered.commands()]).toEqual([1, 1, [{ id: 3 }]]);
  unanswered.settle({ id: 1, result: 'late', error: undefined });
  unanswered.rejectAll(new Error('closed'));
  await expect(third).rejects.toThrow('closed');
  expect(unanswered.count).toBe(0);
});
