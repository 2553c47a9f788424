// `npm run torture -- kill|crash|history ...`: the long forms of what test/fire/ tests. They are written in TypeScript
// beside those tests and compiled to build/torture first, because the processes that they start are plain Node.

import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { unlessDone } from '../lib/inputs.mjs';
import { bin, main, root } from '../lib/project.mjs';
import { ensureBuilt } from '../lib/steps.mjs';

const copy = (file) => copyFileSync(join(root, file), join(root, 'build/torture', file));
const entry = 'build/torture/test/fire/harness/main.js';

await main(async () => {
  ensureBuilt();
  const inputs = ['src', 'test/fire/harness', 'test/support', 'scripts/torture', 'tsconfig.json', 'package-lock.json'];
  unlessDone({ stamp: 'build/torture/.inputs', inputs, outputs: [entry] }, () => {
    bin('typescript', 'bin/tsc', ['-p', 'scripts/torture/tsconfig.json']);
    // The product's sources are compiled along, and one of them reads its version there.
    copy('package.json');
    // It is JavaScript already.
    copy('test/support/database-servers.mjs');
  });
  // What is compiled into build/ does not lie where the addon is looked for.
  process.env.CAIRN_NATIVE_PATH ??= join(root, 'native/build/Release/cairn.node');
  const torture = await import(pathToFileURL(join(root, entry)).href);
  process.exitCode = await torture.main(process.argv.slice(2));
});
