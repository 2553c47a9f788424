// `npm run bench -- engine`: the cost of an append to NATS JetStream, in a cluster of three servers on this machine,
// beside the disk that it syncs to; and how long appends stop when the leader of the stream dies.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { findNatsServer, natsServerVersion } from '../../scripts/lib/nats-server.mjs';
import { BuildError } from '../../scripts/lib/project.mjs';
import { NatsCluster } from '../../test/support/nats-cluster.mjs';
import { describeMachine, printMachine, versionOf } from '../lib/machine.mjs';
import { namesOption, numberOption, readOptions } from '../lib/options.mjs';
import { measureAppends, SUBJECTS } from './appends.mjs';
import { measureKills } from './kills.mjs';

export const summary = 'appends to a cluster of nats-servers, beside their disk, and the death of its leader';

const SECTIONS = ['appends', 'kills'];
const LENGTHS = {
  full: { rounds: 5, ms: 1500, kills: 10, sizes: [1, 16, 512], windows: [1, 4, 16, 64] },
  short: { rounds: 1, ms: 1000, kills: 5, sizes: [1, 16, 512], windows: [1, 4, 16, 64] },
  quick: { rounds: 1, ms: 100, kills: 1, sizes: [1], windows: [1, 16] },
};

export const help = `npm run bench -- engine [options]

  --only SECTIONS      ${SECTIONS.join(',')} (default: both)
  --subjects NAMES     ${Object.keys(SUBJECTS).join(',')} (default: all)
  --nats-server FILE   a nats-server, 2.15 or newer (default: CAIRN_NATS_SERVER, the PATH, or one that Go builds)
  --dir PATH           where the servers keep their streams (default: the folder for temporary files)
  --rounds N           alternating rounds of the appends (default 5)
  --ms N               milliseconds of a measurement (default 1500)
  --kills N            deaths of a leader (default 10)
  --json FILE          all samples, versions, the machine
  --short              one round of a second, and 5 deaths: under four minutes
  --quick              a few seconds and one death: shows that it runs
`;

export async function run(args) {
  const values = readOptions(args, help, {
    only: { type: 'string' },
    subjects: { type: 'string' },
    'nats-server': { type: 'string' },
    dir: { type: 'string' },
    rounds: { type: 'string' },
    ms: { type: 'string' },
    kills: { type: 'string' },
    json: { type: 'string' },
    short: { type: 'boolean' },
    quick: { type: 'boolean' },
  });
  if (values === undefined) return;
  const length = LENGTHS[values.quick ? 'quick' : values.short ? 'short' : 'full'];
  const settings = {
    ...length,
    rounds: numberOption(values, 'rounds', length.rounds),
    ms: numberOption(values, 'ms', length.ms),
    kills: numberOption(values, 'kills', length.kills),
    subjects: namesOption(values, 'subjects', Object.keys(SUBJECTS)),
  };
  const sections = namesOption(values, 'only', SECTIONS);
  const program = findProgram(values['nats-server']);
  const parent = values.dir ?? tmpdir();
  mkdirSync(parent, { recursive: true });
  const folder = mkdtempSync(join(parent, 'cairn-bench-'));
  const machine = {
    ...describeMachine(),
    natsServer: natsServerVersion(program),
    client: versionOf('@nats-io/jetstream'),
  };
  printMachine(machine);
  console.log(`nats-server ${machine.natsServer}, three of them in ${folder}; @nats-io/jetstream ${machine.client}\n`);
  const result = { machine, settings };
  // Both are there all the time, so that they take turns: an idle cluster costs about a percent of a processor.
  const clusters = [];
  const start = async (sync) => {
    const cluster = await NatsCluster.start({ program, parent: folder, sync, memoryMiB: 1024, storeMiB: 8192 });
    clusters.push(cluster);
    return cluster;
  };
  try {
    const always = await start('always');
    if (sections.includes('appends')) {
      const needsDefault = settings.subjects.includes('r3-default');
      result.appends = await measureAppends(
        { always, usual: needsDefault ? await start() : undefined, folder },
        settings,
      );
    }
    if (sections.includes('kills')) result.kills = await measureKills(always, settings);
    console.log(`load ${loadavg()[0].toFixed(1)} at the end`);
    if (values.json !== undefined) writeFileSync(values.json, JSON.stringify(result, undefined, 2));
  } finally {
    await Promise.all(clusters.map((cluster) => cluster.end()));
    rmSync(folder, { recursive: true, force: true });
  }
}

function findProgram(given) {
  try {
    return findNatsServer(given === undefined ? {} : { given });
  } catch (error) {
    if (!(error instanceof BuildError)) throw error;
    throw new RangeError(error.message);
  }
}
