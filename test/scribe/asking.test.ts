import { expect, test } from 'vitest';
import { CairnError } from '../../src/errors.ts';
import { Asking } from '../../src/scribe/asking.ts';
import { plainError, type Report, type Told } from '../../src/scribe/message.ts';
import { withCode } from '../support/errors.ts';

function asking(...told: (Told | undefined)[]): { asking: Asking; said: Report[] } {
  const said: Report[] = [];
  return {
    said,
    asking: new Asking(
      () => told.shift(),
      (report) => said.push(report),
      () => {},
    ),
  };
}

const FILL = { kind: 'fill', epoch: 4 } as const;
const RESULT = { rows: 3, bytes: 30, isFull: false };

test('a question waits for its answer, and what comes meanwhile is heard later, in order', () => {
  const [first, second] = [
    { kind: 'snapshot', id: 1 },
    { kind: 'snapshot', id: 2 },
  ] as const;
  const { asking: each, said } = asking(undefined, first, undefined, second, { kind: 'answer', result: RESULT });
  expect(each.ask(FILL)).toEqual(RESULT);
  expect(said).toEqual([{ kind: 'question', question: FILL }]);
  expect([each.hear(), each.hear(), each.hear()]).toEqual([first, second, undefined]);
});

test('an error in its place is thrown with its code, and an answer that nothing asked for is not heard', () => {
  const error = plainError(new CairnError('ERR_STORE_REFUSED', 'no'));
  const { asking: each } = asking({ kind: 'answer', error }, { kind: 'answer', result: RESULT });
  expect(() => each.ask(FILL)).toThrow(withCode('ERR_STORE_REFUSED', /^no$/));
  expect(each.hear()).toBeUndefined();
});
