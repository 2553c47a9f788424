// The port of a cache with a log, with each front that there is.

import { hasNativeFront } from '../../src/server/native-front.ts';
import { describeKept } from '../conformance/kept.ts';
import { skipUnless } from '../support/skip.ts';

describeKept('node');
skipUnless(hasNativeFront(), 'the native front is there on Linux only', 'platform').describe('on Linux', () => {
  describeKept('native');
});
