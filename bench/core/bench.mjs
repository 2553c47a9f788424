// `npm run bench -- core`: the library against the caches that a Node.js program would use instead, and against the
// figures it has to reach (targets.mjs). README.md says how to read what is printed.

import { writeFileSync } from 'node:fs';
import { describeMachine, printMachine, versionOf } from '../lib/machine.mjs';
import { namesOption, numberOption, readOptions } from '../lib/options.mjs';
import { comparison, number, printTable, withRange } from '../lib/table.mjs';
import { section as many } from './many.mjs';
import { section as memory } from './memory.mjs';
import { section as micro } from './micro.mjs';
import { section as promises } from './promises.mjs';
import { section as reads } from './reads.mjs';
import { section as stalls } from './stalls.mjs';
import { section as sweep } from './sweep.mjs';
import { judge, targets } from './targets.mjs';
import { section as threads } from './threads.mjs';
import { section as writes } from './writes.mjs';

const sections = [reads, writes, many, promises, threads, memory, stalls, micro, sweep];
// What runs only when it is named.
const whole = sections.filter(({ apart }) => !apart);

export const summary = 'the library against lru-cache, mnemonist, tiny-lru, quick-lru, lmdb and its own targets';

export const help = `npm run bench -- core [options]

  --only NAME,...   of ${sections.map(({ name }) => name).join(', ')}
  --quick           some 15 seconds: shows that it runs; nothing is judged
  --rounds N        alternating rounds (default 9; memory at most 3, stalls at most 5)
  --ms N            milliseconds of a measurement (default 150)
  --entries N       entries of a cache where not fixed (default 100000)
  --json FILE       all figures as JSON
  --strict          exit code 1 if a target is missed
`;

function settingsFrom(values) {
  const quick = values.quick ?? false;
  const namesOf = (some) => some.map(({ name }) => name);
  return {
    quick,
    names: namesOption(values, 'only', namesOf(sections), namesOf(whole)),
    rounds: numberOption(values, 'rounds', quick ? 1 : 9),
    ms: numberOption(values, 'ms', quick ? 10 : 150),
    entries: numberOption(values, 'entries', quick ? 2_000 : 100_000),
  };
}

function printSection(section, found) {
  console.log(`== ${section.name}: ${section.title}`);
  console.log(`  ${found.note}\n`);
  const tables = found.tables ?? [comparison(found)];
  for (const { title, headings, rows } of tables) {
    if (title !== undefined) console.log(`  ${title}`);
    printTable(headings, rows);
  }
  if (found.ratios !== undefined) {
    printTable(
      ['per key, by CPU time', ''],
      Object.entries(found.ratios).map(([name, value]) => [name, withRange(value, 'x')]),
    );
  }
}

function printVerdicts(verdicts) {
  console.log('== targets');
  const rows = verdicts.map(({ target, value, verdict }) => {
    const wanted = `${target.atMost ? '<=' : '>='} ${target.levels.map((level) => number(level)).join(', then ')}${target.unit}`;
    if (value === undefined) return [target.text, wanted, '', 'not measured'];
    const next = verdict.next === undefined ? '' : ` of the first; ${number(verdict.next)}${target.unit} is next`;
    return [target.text, wanted, withRange(value, target.unit), `${verdict.verdict} ${verdict.percent} %${next}`];
  });
  printTable(['', 'target', 'measured', ''], rows);
}

export async function run(args) {
  const values = readOptions(args, help, {
    only: { type: 'string' },
    quick: { type: 'boolean' },
    rounds: { type: 'string' },
    ms: { type: 'string' },
    entries: { type: 'string' },
    json: { type: 'string' },
    strict: { type: 'boolean' },
  });
  if (values === undefined) return;
  const settings = settingsFrom(values);
  const machine = describeMachine();
  printMachine(machine);
  const found = {};
  for (const section of sections.filter(({ name }) => settings.names.includes(name))) {
    found[section.name] = await section.run(settings);
    printSection(section, found[section.name]);
  }
  const measured = Object.assign({}, ...Object.values(found).map((section) => section.targets));
  const verdicts = targets.map((target) => {
    const value = measured[target.id];
    return { target, value, verdict: value === undefined ? undefined : judge(target, value) };
  });
  // Of a part of the run, only what it measured.
  const all = whole.every(({ name }) => settings.names.includes(name));
  if (!settings.quick) printVerdicts(verdicts.filter(({ value }) => all || value !== undefined));
  if (values.json !== undefined) {
    const packages = ['lru-cache', 'mnemonist', 'tiny-lru', 'quick-lru', 'lmdb', 'piscina', 'benchmark'];
    const versions = Object.fromEntries(['cairn-cache', ...packages].map((name) => [name, versionOf(name)]));
    const kept = Object.fromEntries(
      Object.entries(found).map(([name, { note, results, ratios }]) => [name, { note, results, ratios }]),
    );
    const judged = settings.quick ? undefined : verdicts;
    writeFileSync(
      values.json,
      `${JSON.stringify({ machine, versions, settings, sections: kept, targets: judged }, null, 1)}\n`,
    );
  }
  const missed = verdicts.filter(({ verdict }) => verdict !== undefined && !verdict.met);
  if (values.strict && !settings.quick && missed.length > 0) process.exitCode = 1;
}
