// `npm run check`: everything that CI runs, to the end even after a failure, then a table of what it came to.
//
//   node scripts/check.mjs [STEP...] [--without STEP,STEP]
//
// A step is a file in check/ that exports `title` and `check()`. It throws when it fails and returns a sentence when it
// could not be done here; with CAIRN_REQUIRE_SERVICES=1, as in CI, that is a failure too.

import { BuildError, main } from './lib/project.mjs';
import { ensureBuilt } from './lib/steps.mjs';

const steps = [
  'lint',
  'types',
  'tests',
  'model',
  'services',
  'asan',
  'addon',
  'tsan',
  'fuzz',
  'mingw',
  'gyp',
  'glibc',
  'pack',
];

function chosenSteps(args) {
  const without = args.includes('--without') ? args[args.indexOf('--without') + 1].split(',') : [];
  const named = args.filter((arg, i) => arg !== '--without' && args[i - 1] !== '--without');
  for (const name of [...named, ...without]) {
    if (!steps.includes(name)) throw new BuildError(`Expected a step (${steps.join(', ')}), got "${name}"`);
  }
  return (named.length > 0 ? named : steps).filter((name) => !without.includes(name));
}

async function runStep(name) {
  const { title, check } = await import(`./check/${name}.mjs`);
  console.log(`\n== ${title} (npm run check:${name})`);
  const start = performance.now();
  let result = 'passed';
  let note = '';
  try {
    const reason = await check();
    if (typeof reason === 'string') {
      result = process.env.CAIRN_REQUIRE_SERVICES === '1' ? 'FAILED' : 'skipped';
      note = reason;
    }
  } catch (error) {
    result = 'FAILED';
    console.error(error instanceof BuildError ? error.message : error);
  }
  return { name, title, result, note, seconds: (performance.now() - start) / 1000 };
}

await main(async () => {
  const chosen = chosenSteps(process.argv.slice(2));
  ensureBuilt();
  const rows = [];
  for (const name of chosen) rows.push(await runStep(name));
  console.log('\nstep       result    seconds');
  for (const { name, result, note, seconds } of rows) {
    console.log(`${name.padEnd(10)} ${result.padEnd(9)} ${seconds.toFixed(1).padStart(7)}  ${note}`.trimEnd());
  }
  const failed = rows.filter(({ result }) => result === 'FAILED');
  if (failed.length > 0) throw new BuildError(`Failed: ${failed.map(({ name }) => name).join(', ')}`);
});
