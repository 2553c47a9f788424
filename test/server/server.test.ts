// The server with each front that there is.

import { hasNativeFront } from '../../src/server/native-front.ts';
import { describeServer } from '../conformance/server.ts';
import { skipUnless } from '../support/skip.ts';

describeServer('node');
skipUnless(hasNativeFront(), 'the native front is there on Linux only', 'platform').describe('on Linux', () => {
  describeServer('native');
});
