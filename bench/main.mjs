// `npm run bench`: runs one of the benches. Each is a folder with a bench.mjs that exports `summary`, `help` and
// `run(args)`.

import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const folder = dirname(fileURLToPath(import.meta.url));
const names = readdirSync(folder)
  .filter((name) => existsSync(join(folder, name, 'bench.mjs')))
  .sort();

const load = (name) => import(pathToFileURL(join(folder, name, 'bench.mjs')).href);

async function list() {
  console.log('npm run bench -- NAME [options]; npm run bench -- NAME --help\n');
  for (const name of names) console.log(`  ${name.padEnd(12)} ${(await load(name)).summary}`);
  console.log('\nThe store without JavaScript: native/store_bench.cc. How to read figures: bench/README.md');
}

const [name, ...args] = process.argv.slice(2);
if (name === undefined || name === '--help' || name === '-h' || name === '--list') {
  await list();
} else if (!names.includes(name)) {
  console.error(`Expected the name of a bench (${names.join(', ')}), got "${name}"`);
  process.exitCode = 1;
} else {
  try {
    await (await load(name)).run(args);
  } catch (error) {
    // Wrong options are the user's to read; everything else is ours.
    if (!(error instanceof RangeError) && error?.code !== 'ERR_PARSE_ARGS_UNKNOWN_OPTION') throw error;
    console.error(error.message);
    process.exitCode = 1;
  }
}
