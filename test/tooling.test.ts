// What the scripts promise to someone with a fresh clone and a machine that lacks something.

import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { checkCompiler, compilerAdvice, findProgram, run } from '../native/build.mjs';
import { BuildProgress } from '../native/progress.mjs';
import { fingerprint, unlessDone } from '../scripts/lib/inputs.mjs';
import { checkNode, root } from '../scripts/lib/project.mjs';
import { startArguments } from '../scripts/lib/start.mjs';
import { checkPortable } from '../scripts/prebuild.mjs';
import { skipUnless } from './support/skip.ts';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'cairn-tooling-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe('the compiler', () => {
  test.each([
    ['ID=debian', 'linux', 'apt-get install'],
    ['NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian', 'linux', 'apt-get install'],
    ['ID=alpine', 'linux', 'apk add'],
    ['ID="rocky"\nID_LIKE="rhel centos fedora"', 'linux', 'dnf install'],
    ['ID="opensuse-leap"\nID_LIKE="suse opensuse"', 'linux', 'zypper install'],
    ['', 'darwin', 'xcode-select --install'],
    ['', 'win32', 'winget install'],
  ])('that is missing is to be installed with one line: %j on %s', (osRelease, platform, line) => {
    const advice = compilerAdvice(osRelease, platform as NodeJS.Platform);
    expect(advice).toContain(line);
    expect(advice.split('\n')).toHaveLength(1);
  });

  test('that is missing on an unknown system is to be installed with one of all lines', () => {
    const advice = compilerAdvice('ID=plan9', 'linux');
    for (const system of ['Debian', 'Alpine', 'Fedora', 'macOS', 'Windows']) expect(advice).toContain(system);
  });

  skipUnless(
    process.platform !== 'win32',
    'Windows has no CXX',
    'platform',
  )('named in CXX is the one looked for', () => {
    const before = process.env['CXX'];
    try {
      process.env['CXX'] = 'no-such-compiler -flag';
      expect(() => checkCompiler()).toThrow(/Looked for no-such-compiler \(from CXX\)/);
    } finally {
      if (before === undefined) delete process.env['CXX'];
      else process.env['CXX'] = before;
    }
  });
});

describe('a native build', () => {
  test.each([
    [
      'Ninja',
      ['[1/52] Building CXX object arena.cc.o', 'note', '[52/52] Linking'],
      ['1 of 52 files built', undefined, '52 of 52 files built'],
    ],
    [
      'make',
      ['[  1%] Building CXX object CMakeFiles/arena.cc.o', '[ 99%] Linking'],
      ['1 of at most 60 files built', undefined],
    ],
    [
      'MSBuild',
      ['  arena.cc', '  cairn.vcxproj -> cairn.node', '  store.cc'],
      ['1 of at most 60 files built', undefined, '2 of at most 60 files built'],
    ],
  ])('by %s says how many files are built', (_, lines, said) => {
    const progress = new BuildProgress(60);
    expect(lines.map((line) => progress.read(line))).toEqual(said);
  });

  test('that reports its progress keeps its output and its exit code', () => {
    const build = (script: string) =>
      spawnSync(process.execPath, [join(root, 'native/progress.mjs'), process.execPath, '-e', script], {
        encoding: 'utf8',
      });
    expect(build("console.log('[1/2] a'); console.log('[2/2] b')")).toMatchObject({
      status: 0,
      stdout: '[1/2] a\n[2/2] b\n',
    });
    expect(build("console.log('broken'); process.exit(3)")).toMatchObject({ status: 3, stdout: 'broken\n' });
    expect(() =>
      run(process.execPath, ['-e', "console.log('broken'); process.exit(3)"], { quiet: true, progress: true }),
    ).toThrow(/node.* exit code 3\nbroken$/s);
  });
});

describe('npm start', () => {
  const data = ['--data', './cairn-data'];
  const lmdb = ['--store', 'lmdb:'];

  test.each<[string[], Record<string, string>, string[]]>([
    [[], {}, [...data, ...lmdb]],
    [['-m', '64'], {}, [...data, ...lmdb, '-m', '64']],
    [['--data', 'd'], {}, [...data, ...lmdb, '--data', 'd']],
    [['--store', 'mine.mjs'], {}, [...data, '--store', 'mine.mjs']],
    [['--store=mine.mjs'], {}, [...data, '--store=mine.mjs']],
    [[], { CAIRN_STORE: 'mine.mjs' }, data],
    [['--no-data'], {}, [...data, '--no-data']],
    [['--config', 'c.json'], {}, ['--config', 'c.json']],
    [['--config=c.json'], {}, ['--config=c.json']],
    [[], { CAIRN_CONFIG: 'c.json' }, []],
    [[], { CAIRN_DATA: 'd' }, []],
    [[], { CAIRN_CONFIG: '', CAIRN_DATA: '', CAIRN_STORE: '' }, [...data, ...lmdb]],
  ])('with %j and the variables %j serves with %j', (args, variables, all) => {
    expect(startArguments(args, variables)).toEqual(all);
  });
});

test('npm test with a word that no test file has says so', () => {
  const { status, stdout } = spawnSync(process.execPath, [join(root, 'scripts/task.mjs'), 'test', 'nosuchfile'], {
    encoding: 'utf8',
  });
  expect(status).toBe(1);
  expect(stdout).toBe('No test file matches nosuchfile: expected a part of a path, such as test/api or log/recover\n');
});

test('a run of tests ends with the names of the failed ones and what they said, however many are skipped', () => {
  const file = join(folder, 'mixed.test.js');
  writeFileSync(
    file,
    `test('fails', () => expect('this').toBe('that'));
    for (let i = 0; i < 300; i++) test('is skipped ' + i, ({ skip }) => skip('a reason'));`,
  );
  const { CAIRN_TEST_REPORT: _, ...env } = process.env;
  const args = ['run', '--root', folder, '--globals', '--reporter', join(root, 'test/support/reporter.ts')];
  const { status, stdout } = spawnSync(process.execPath, [join(root, 'node_modules/vitest/vitest.mjs'), ...args], {
    env,
    encoding: 'utf8',
  });
  expect(status).toBe(1);
  expect(stdout).toContain('- a reason\n    300 of mixed.test.js\n');
  expect(stdout.slice(stdout.indexOf('Failed:\n'))).toMatch(
    /^Failed:\n- mixed\.test\.js > fails\n {4}expected 'this' to be 'that'[^\n]*\n {4}at [^\n]*mixed\.test\.js:1:\d+\)?\n*$/,
  );
});

describe('the version of Node', () => {
  test.each(['20.19.0', '20.20.2', '22.12.0', '22.23.3', '23.0.0', '26.1.0'])('%s is enough', (version) => {
    expect(() => checkNode(version)).not.toThrow();
  });
  test.each(['18.20.0', '20.18.9', '21.7.3', '22.11.0'])('%s is refused', (version) => {
    expect(() => checkNode(version)).toThrow(`Node ${version} is too old`);
  });
});

describe('a step', () => {
  const inside = (name: string): string => relative(root, join(folder, name));

  test('depends on the contents of its inputs, not on their times', () => {
    const [input] = [join(folder, 'a')];
    writeFileSync(input, 'one');
    const first = fingerprint([inside('a')]);
    utimesSync(input, 1, 1);
    expect(fingerprint([inside('a')])).toBe(first);
    expect(fingerprint([inside('a')], ['another compiler'])).not.toBe(first);
    writeFileSync(input, 'two');
    expect(fingerprint([inside('a')])).not.toBe(first);
  });

  test('runs once, again when an input changes or an output is gone, and again after a failure', () => {
    const job = { stamp: inside('stamp'), inputs: [inside('a')], outputs: [inside('out')] };
    const write = (): void => writeFileSync(join(folder, 'out'), '');
    writeFileSync(join(folder, 'a'), 'one');
    expect(unlessDone(job, write)).toBe(true);
    expect(unlessDone(job, write)).toBe(false);
    rmSync(join(folder, 'out'));
    expect(unlessDone(job, write)).toBe(true);
    writeFileSync(join(folder, 'a'), 'two');
    expect(() =>
      unlessDone(job, () => {
        throw new Error('failed');
      }),
    ).toThrow('failed');
    expect(unlessDone(job, write)).toBe(true);
  });

  test('is done by one of the processes that find it at the same time, and the others wait', async () => {
    const program = join(folder, 'program.mjs');
    const job = { stamp: inside('stamp'), inputs: [], outputs: [inside('out')] };
    // The work takes until all have begun, and longer.
    writeFileSync(
      program,
      `import { appendFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
      import { unlessDone } from ${JSON.stringify(new URL('../scripts/lib/inputs.mjs', import.meta.url).href)};
      process.chdir(${JSON.stringify(folder)});
      const pause = (ms) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
      writeFileSync('begun-' + process.pid, '');
      const ran = unlessDone(${JSON.stringify(job)}, () => {
        while (readdirSync('.').filter((name) => name.startsWith('begun-')).length < 3) pause(5);
        pause(200);
        appendFileSync('out', 'done');
      });
      console.log(ran, readFileSync('out', 'utf8'));`,
    );
    const run = promisify(execFile);
    const ends = await Promise.all([1, 2, 3].map(() => run(process.execPath, [program])));
    expect(ends.map(({ stdout }) => stdout).sort()).toEqual(['false done\n', 'false done\n', 'true done\n']);
  });

  test('is not waited for when the process that did it has died', () => {
    const { pid } = spawnSync(process.execPath, ['-e', '']);
    writeFileSync(join(folder, 'stamp.lock'), String(pid));
    expect(unlessDone({ stamp: inside('stamp'), inputs: [] }, () => {})).toBe(true);
    expect(readdirSync(folder)).toEqual(['stamp']);
  });
});

describe('the guard of the prebuilt addon', () => {
  const tools = process.platform === 'linux' && findProgram('objdump') && findProgram('c++');
  const guarded = skipUnless(tools, 'needs objdump and a compiler on Linux', 'platform');

  guarded('refuses a file that is no addon', () => {
    writeFileSync(join(folder, 'x.node'), 'text');
    expect(() => checkPortable(join(folder, 'x.node'))).toThrow('objdump cannot read');
  });

  guarded('refuses what needs something that neither Node nor an old C library has, and names it', () => {
    const [source, file] = [join(folder, 'x.cc'), join(folder, 'x.node')];
    const build = (text: string): void => {
      writeFileSync(source, text);
      execFileSync('c++', ['-shared', '-fPIC', '-nostdlib', '-o', file, source]);
    };
    build('extern "C" int napi_create_object(); int f() { return napi_create_object(); }');
    expect(checkPortable(file)).toBe('2.0');
    build('extern "C" int of_nobody(); int f() { return of_nobody(); }');
    expect(() => checkPortable(file)).toThrow(/needs what glibc 2\.28 and Node do not have:\n {2}of_nobody$/);
  });
});
