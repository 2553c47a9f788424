// `npm run check`: everything that CI runs, to the end even after a failure, then a table of what it came to.
//
//   node scripts/check.mjs [STEP...] [--without STEP,STEP]
//
// Each step is a separate process, whose output passes through here. The last output of a failed step is printed again
// at the end, for readers of the end only.
//
// A step is a file in check/ that exports `title` and `check()`. It throws when it fails and returns a sentence when it
// could not be done here; with CAIRN_REQUIRE_SERVICES=1, as in CI, that is a failure too.

import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { BuildError, main, root } from './lib/project.mjs';
import { seedTests } from './lib/seed.mjs';
import { ensureBuilt } from './lib/steps.mjs';

const steps = [
  'lint',
  'types',
  'annotations',
  'tests',
  'model',
  'services',
  'sqlite',
  'asan',
  'addon',
  'tsan',
  'fuzz',
  'windows',
  'arm64',
  'macos',
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

/** As much of each output of a failed step is shown again, in characters. */
const TAIL = 6000;

/** In the step's own process: exits with 0, 1 (failed) or SKIPPED, and says why. */
const SKIPPED = 3;
async function runHere(name) {
  const { check } = await import(`./check/${name}.mjs`);
  const reason = await check();
  if (typeof reason !== 'string') return;
  console.log(reason);
  process.exitCode = SKIPPED;
}

/** The exit code of a step's process, and the end of its standard error and of its standard output. */
function runApart(name) {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), '--here', name], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  // Two pipes have no common order. Standard output is shown last: the list of failed tests ends it.
  const tails = { stderr: '', stdout: '' };
  for (const stream of Object.keys(tails)) {
    child[stream].setEncoding('utf8').on('data', (text) => {
      process[stream].write(text);
      tails[stream] = (tails[stream] + text).slice(-TAIL);
    });
  }
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal, tail: Object.values(tails).join('\n') }));
  });
}

async function runStep(name) {
  const { title } = await import(`./check/${name}.mjs`);
  console.log(`\n== ${title} (npm run check:${name})`);
  const start = performance.now();
  const { code, signal, tail } = await runApart(name);
  let result = 'passed';
  if (code === SKIPPED) result = process.env.CAIRN_REQUIRE_SERVICES === '1' ? 'FAILED' : 'skipped';
  else if (code !== 0) result = 'FAILED';
  const note = code === SKIPPED ? tail.trim().split('\n').at(-1) : signal === null ? '' : `ended by ${signal}`;
  return { name, title, result, note, tail, seconds: (performance.now() - start) / 1000 };
}

await main(async () => {
  if (process.argv[2] === '--here') return runHere(process.argv[3]);
  const chosen = chosenSteps(process.argv.slice(2));
  ensureBuilt();
  console.log(`CAIRN_SEED=${seedTests()}: what every random part begins from`);
  const rows = [];
  for (const name of chosen) rows.push(await runStep(name));
  const failed = rows.filter(({ result }) => result === 'FAILED');
  for (const { title, tail } of failed) console.log(`\n== the end of: ${title}\n${tail}`);
  console.log('\nstep       result    seconds');
  for (const { name, result, note, seconds } of rows) {
    console.log(`${name.padEnd(10)} ${result.padEnd(9)} ${seconds.toFixed(1).padStart(7)}  ${note}`.trimEnd());
  }
  const minutes = rows.reduce((sum, { seconds }) => sum + seconds, 0) / 60;
  console.log(`all together         ${minutes.toFixed(1)} minutes`);
  if (failed.length > 0) throw new BuildError(`Failed: ${failed.map(({ name }) => name).join(', ')}`);
});
