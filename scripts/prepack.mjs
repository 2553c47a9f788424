// Before `npm pack` and `npm publish`: a tarball without dist/ or without this machine's addon would install and not run.

import { main } from './lib/project.mjs';
import { ensureBuilt } from './lib/steps.mjs';
import { prebuild } from './prebuild.mjs';

await main(() => {
  ensureBuilt();
  prebuild();
});
