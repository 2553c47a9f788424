// Before `npm pack` and `npm publish`: a tarball without dist/ or without this machine's addon would install and not
// run. Addons for other platforms go into it as far as this machine can build them.

import { main } from './lib/project.mjs';
import { ensureBuilt } from './lib/steps.mjs';
import { prebuildAll } from './prebuild.mjs';

await main(() => {
  ensureBuilt();
  prebuildAll();
});
