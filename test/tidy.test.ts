// What STYLE says about the tree, enforced: which folder may use which, where Node's and the system's headers may be
// included, that lists agree with what exists, that documents exist and their links lead somewhere.
//
// The sources are read as text. That is enough, because the formatters leave one way to write an import.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const generated = /^(node_modules|dist|build|build-.*|coverage|prebuilds|cairn-data|\..*)$/;

/** All files under a folder with one of the endings, as paths from the root with forward slashes. */
function files(folder: string, ...endings: string[]): string[] {
  if (!existsSync(join(root, folder))) return [];
  return readdirSync(join(root, folder), { withFileTypes: true })
    .flatMap((entry) => {
      const path = posix.join(folder, entry.name);
      if (entry.isDirectory()) return generated.test(entry.name) ? [] : files(path, ...endings);
      return endings.some((ending) => entry.name.endsWith(ending)) ? [path] : [];
    })
    .sort();
}

/** Every [file, line number, line] of the files for which `bad` says why it is wrong. */
function faults(paths: string[], bad: (line: string, path: string) => string | undefined): string[] {
  return paths.flatMap((path) =>
    read(path)
      .split('\n')
      .flatMap((line, i) => {
        const why = bad(line, path);
        return why === undefined ? [] : [`${path}:${i + 1}: ${why}`];
      }),
  );
}

/** Of more columns than lines have here. */
function tooWide(line: string): string | undefined {
  const width = [...line].length;
  return width > 120 ? `${width} columns` : undefined;
}

describe('native/', () => {
  // A folder may include itself and these.
  const table: Record<string, string[]> = {
    base: [],
    store: ['base'],
    process: ['base', 'store'],
    protocol: ['base', 'store'],
    server: ['base', 'store', 'process', 'protocol'],
    addon: ['base', 'store', 'process', 'protocol', 'server'],
  };
  const sources = files('native', '.h', '.cc');
  const folderOf = (path: string): string => path.split('/')[1] ?? '';

  test('each folder includes only what is to its left in the table', () => {
    const wrong = faults(sources, (line, path) => {
      const [, target] = /^\s*#\s*include\s+"([^"]+)"/.exec(line) ?? [];
      if (target === undefined) return undefined;
      const [from, to] = [folderOf(path), target.split('/')[0] ?? ''];
      if (!(from in table)) return `native/${from} has no row in the table of ${relative(root, import.meta.filename)}`;
      if (!existsSync(join(root, 'native', target))) return `"${target}" is not a path from native/`;
      return from === to || table[from]?.includes(to) ? undefined : `${from} must not include ${to}`;
    });
    expect(wrong).toEqual([]);
  });

  test("Node's headers are included in addon/ only, the system's in base/os_* and server/ only", () => {
    const wrong = faults(sources, (line, path) => {
      const [, header] = /^\s*#\s*include\s+[<"]([^>"]+\.h)[>"]/.exec(line) ?? [];
      if (header === undefined || line.includes('"')) return undefined;
      if (/^(napi|node_api|js_native_api|node|v8|uv)\b/.test(header)) {
        return folderOf(path) === 'addon' ? undefined : `<${header}> belongs in addon/`;
      }
      if (/^(\w*intrin|arm_neon)\.h$/.test(header)) return undefined;
      const system = /^native\/base\/os_\w+\.cc$/.test(path) || folderOf(path) === 'server';
      return system ? undefined : `<${header}> belongs in base/os_* or server/`;
    });
    expect(wrong).toEqual([]);
  });

  test('sources.gypi lists every source once and nothing else', () => {
    const { variables } = JSON.parse(read('native/sources.gypi')) as { variables: Record<string, string[]> };
    const listed = [...(variables['cairn_core_sources'] ?? []), ...(variables['cairn_addon_sources'] ?? [])];
    expect([...listed].sort()).toEqual(sources.filter((path) => path.endsWith('.cc')));
  });

  test('only addon/ is in the list that needs the headers of Node', () => {
    const { variables } = JSON.parse(read('native/sources.gypi')) as { variables: Record<string, string[]> };
    expect(variables['cairn_addon_sources']?.filter((path) => !path.startsWith('native/addon/'))).toEqual([]);
    expect(variables['cairn_core_sources']?.filter((path) => path.startsWith('native/addon/'))).toEqual([]);
  });

  test('every header is guarded, and no line is longer than the formatter allows', () => {
    const headers = [...sources, ...files('test/native', '.h')].filter((path) => path.endsWith('.h'));
    expect(headers.filter((path) => !/^#pragma once$/m.test(read(path)))).toEqual([]);
    const all = [...sources, ...files('test/native', '.h', '.cc')];
    expect(faults(all, tooWide)).toEqual([]);
  });
});

test('no comment is wider than the formatter lets code be, which leaves comments alone', () => {
  const scripts = ['src', 'test', 'bench', 'scripts', 'native'].flatMap((folder) => files(folder, '.ts', '.mjs'));
  expect(faults(scripts, (line) => (/^\s*(\/\/|\/?\*)/.test(line) ? tooWide(line) : undefined))).toEqual([]);
});

test('no comment has a line of one or two words between longer ones, as a formatter that broke a picture leaves it', () => {
  const sources = ['native', 'src', 'test', 'bench', 'scripts'].flatMap((folder) =>
    files(folder, '.h', '.cc', '.ts', '.mjs'),
  );
  const textOf = (line = ''): string => /^\s*(?:\/\/|\*) +(.*)/.exec(line)?.[1] ?? '';
  // The end of a sentence, a name with its arguments and a row of a picture may be short.
  const torn = /^[\w'-]+[,;]?( [\w'-]+[,;]?)?$/;
  const wrong = sources.flatMap((path) => {
    const lines = read(path).split('\n').map(textOf);
    return lines.flatMap((text, i) => {
      const longer = (other = ''): boolean => other.length > text.length;
      return torn.test(text) && longer(lines[i - 1]) && longer(lines[i + 1]) ? [`${path}:${i + 1}: ${text}`] : [];
    });
  });
  expect(wrong).toEqual([]);
});

describe('src/', () => {
  const first = ['errors', 'limits', 'options', 'request', 'queue'];
  const shared = ['errors', 'limits', 'options'];
  // A stage (a file or a folder of src/) may import itself and these; '*' is everything.
  const table: Record<string, string[]> = {
    ...Object.fromEntries(first.map((stage, i) => [stage, first.slice(0, i)])),
    version: [],
    native: ['errors', 'limits', 'request'],
    reports: [],
    notices: ['errors', 'reports'],
    copies: ['errors'],
    receiver: ['errors'],
    clock: ['errors', 'native'],
    answers: [...first, 'native', 'commits', 'reports'],
    dump: [...shared, 'request'],
    walks: [...first, 'native', 'answers', 'dump'],
    many: [...first, 'native', 'answers'],
    reads: [...first, 'native', 'answers', 'reports'],
    writes: [...first, 'native', 'answers'],
    atomic: [...first, 'native', 'answers', 'rules', 'writes'],
    stats: ['errors', 'native', 'fetch', 'scribe', 'write-back'],
    'opening-data': ['options', 'native', 'rules', 'scribe', 'write-back'],
    opening: [
      ...[...shared, 'refusals', 'native', 'clock', 'copies', 'router', 'rules', 'scribe', 'opening-data'],
      'read-through',
    ],
    refusals: ['errors', 'native'],
    resize: [...shared, 'native', 'answers', 'refusals'],
    'cache-write-back': [
      ...['errors', 'options', 'request', 'native', 'answers', 'backend', 'notices', 'patience', 'reports'],
      ...['key-drains', 'rules', 'write-back'],
    ],
    'cache-log': ['errors', 'native', 'answers', 'notices', 'reports', 'scribe'],
    'cache-servers': ['clock', 'errors', 'options', 'native', 'scribe', 'server', 'write-back'],
    ending: ['native', 'options', 'patience', 'cache-log', 'cache-servers', 'promises'],
    serve: ['options', 'cache', 'copies', 'server'],
    patience: ['errors', 'limits', 'options'],
    config: ['options'],
    fetch: [...first, 'native', 'loads', 'patience'],
    removals: [...first, 'native'],
    router: [...first, 'native'],
    held: ['errors', 'native', 'queue'],
    commits: [...first, 'native', 'held'],
    'stored-waits': [...first, 'native', 'held', 'commits'],
    'key-drains': [...first, 'native', 'stored-waits'],
    loads: [...shared, 'native', 'patience'],
    promises: [
      ...[
        ...first,
        'native',
        'answers',
        'atomic',
        'held',
        'commits',
        'stored-waits',
        'loads',
        'patience',
        'receiver',
        'reports',
        'router',
      ],
    ],
    server: [...first, 'native', 'version'],
    log: [...shared, 'request'],
    scribe: [...shared, 'request', 'native', 'log'],
    rules: ['request'],
    supervisor: ['errors'],
    backend: ['errors', 'request', 'rules'],
    testing: ['backend'],
    torture: ['backend'],
    'write-back': [...shared, 'log', 'request', 'native', 'rules', 'backend', 'scribe', 'loads', 'supervisor'],
    'read-through': [...shared, 'native', 'rules', 'backend', 'scribe', 'supervisor', 'write-back'],
    replica: [...shared, 'log', 'request'],
    client: ['errors', 'limits'],
    // The classes of a cache, from the first to the last.
    'cache-entries': [...first, 'native', 'answers', 'opening', 'receiver', 'reads', 'writes', 'many', 'atomic'],
    'cache-fetch': ['options', 'request', 'answers', 'opening', 'reads', 'fetch', 'cache-entries'],
    'cache-whole': ['options', 'native', 'answers', 'opening', 'walks', 'stats', 'resize', 'cache-fetch'],
    cache: [
      ...[...shared, 'native', 'answers', 'opening', 'copies', 'receiver', 'removals', 'promises', 'stats'],
      ...['cache-fetch', 'cache-whole', 'cache-log', 'cache-servers', 'cache-write-back', 'ending'],
      ...['scribe', 'server', 'write-back', 'replica', 'client'],
    ],
    cluster: [...shared, 'cache', 'client', 'replica', 'request', 'router'],
    index: ['*'],
    adapters: ['index'],
    // Beside the API, what help and checks need where the addon, and with it index.ts, does not load.
    cli: ['index', 'errors', 'options', 'version'],
  };
  // What one file of a stage may import beside.
  const exceptions: Record<string, string[]> = {
    // It works on files; `inspect` also where the addon, and with it index.ts, does not load.
    'src/cli/log.ts': ['log', 'native'],
    // It asks the database, without a cache.
    'src/cli/dead-letters.ts': ['backend'],
    // It works on the log and the database, without a cache.
    'src/cli/rebuild.ts': ['write-back'],
    'src/cli/torture.ts': ['torture'],
    // What the option `store` may be is the type of the databases.
    'src/options/types/cache.ts': ['rules'],
    'src/options/types/store.ts': ['backend', 'rules'],
    'src/options/kinds.ts': ['backend'],
    'src/options/store.ts': ['backend', 'rules'],
    'src/options/rules.ts': ['rules'],
    'src/options/stores.ts': ['rules'],
    'src/options/rows/rules.ts': ['rules'],
  };
  const sources = files('src', '.ts');
  const stageOf = (path: string): string => (path.split('/')[1] ?? '').replace(/\.ts$/, '');
  const specifier = /(?:^|[\s;}])(?:from|import)\s*\(?\s*'([^']+)'/;

  function importFault(line: string, path: string): string | undefined {
    const [, target] = specifier.exec(line) ?? [];
    if (target === undefined || /^\s*(\*|\/\/)/.test(line)) return undefined;
    if (!target.startsWith('.')) return undefined;
    if (!target.endsWith('.ts')) return `'${target}' should end in .ts`;
    const file = posix.join(posix.dirname(path), target);
    const [from, to] = [stageOf(path), stageOf(file)];
    if (!existsSync(join(root, file))) return `'${target}' does not exist`;
    if (from === to) return undefined;
    const allowed = table[from];
    if (allowed === undefined) return `${from} has no row in the table of ${relative(root, import.meta.filename)}`;
    if (!allowed.includes('*') && !allowed.includes(to) && !exceptions[path]?.includes(to)) {
      return `${from} must not import ${to}`;
    }
    const face = `src/${to}/index.ts`;
    const inFolder = file.startsWith(`src/${to}/`);
    return inFolder && existsSync(join(root, face)) && file !== face ? `import ${face}, the folder's face` : undefined;
  }

  test('each stage imports only what the table allows, through the face of its folder', () => {
    expect(faults(sources, importFault)).toEqual([]);
  });

  test('the scribe knows its log by the port, and so does recovery', () => {
    // These take the directory, choose the log, or carry its options.
    const outside = ['embedded.ts', 'files.ts', 'keeper.ts', 'message.ts', 'opening-help.ts', 'worker.ts'];
    const ofEveryLog = ['log-port', 'request-log', 'record-places', 'recover'].flatMap((name) =>
      [...read(`src/log/${name}.ts`).matchAll(/^export (?:interface|type|class|function\*?|const) (\w+)/gm)].map(
        ([, exported]) => exported!,
      ),
    );
    const allowed = new Set([...ofEveryLog, 'LogClock', 'LogNotice', 'recordsLost', 'eraOf', 'FORMAT_VERSION']);
    const scribe = files('src/scribe', '.ts').filter((path) => !outside.includes(posix.basename(path)));
    const wrong = scribe.flatMap((path) =>
      [...read(path).matchAll(/import (?:type )?\{([^}]*)\} from '\.\.\/log\/index\.ts'/g)]
        .flatMap(([, names]) => names!.split(',').map((name) => name.replace('type ', '').trim()))
        .filter((name) => name !== '' && !allowed.has(name))
        .map((name) => `${path}: ${name}`),
    );
    const recovery = faults(['src/log/recover.ts', 'src/log/log-port.ts', 'src/log/record-places.ts'], (line) =>
      /from '\.\/(?!log-port|request-log|log-options|record-places|epoch)[\w-]+\.ts'/.test(line)
        ? 'imports an implementation'
        : undefined,
    );
    expect([...wrong, ...recovery]).toEqual([]);
    expect(scribe.length).toBeGreaterThan(5);
  });

  test('the .node file is loaded in src/native/load.ts only, and that is used by native.ts only', () => {
    const wrong = faults(sources, (line, path) => {
      if (path === 'src/native/load.ts' || stageOf(path) === 'native' || path === 'src/cli/build.ts') return undefined;
      return /native\/load\.ts|createRequire|process\.dlopen/.test(line) ? 'loads the addon' : undefined;
    });
    expect(wrong).toEqual([]);
  });

  test('the library installs no signal handler and ends no process', () => {
    const library = sources.filter((path) => stageOf(path) !== 'cli');
    const handler = /process\.(on|once|addListener|prependListener)\(\s*'SIG|process\.(exit|abort|kill)\(/;
    expect(faults(library, (line) => (handler.test(line) ? 'belongs in cli/' : undefined))).toEqual([]);
  });
});

describe('tests', () => {
  test('none is left out without a reason that the end of the run shows', () => {
    const paths = files('test', '.ts').filter(
      (path) => path !== 'test/support/skip.ts' && path !== 'test/tidy.test.ts',
    );
    const silent = /\b(?:test|it|describe)\.(skip|todo|only|skipIf|runIf)\b/;
    expect(faults(paths, (line) => (silent.test(line) ? 'use skipUnless of support/skip.ts' : undefined))).toEqual([]);
  });

  test('those of the public API import nothing but it and test support', () => {
    const wrong = faults(files('test/api', '.ts'), (line, path) => {
      const [, target] = /from '(\.[^']+)'/.exec(line) ?? [];
      if (target === undefined) return undefined;
      const file = posix.join(posix.dirname(path), target);
      return file === 'src/index.ts' || file.startsWith('test/') ? undefined : `imports ${file}`;
    });
    expect(wrong).toEqual([]);
  });
});

describe('the package', () => {
  const manifest = JSON.parse(read('package.json'));
  const native = JSON.parse(read('native/package.json'));

  test('runs nothing at installation, and npm is told not to invent a build', () => {
    const hooks = ['preinstall', 'install', 'postinstall', 'prepare'];
    expect(hooks.filter((name) => name in manifest.scripts)).toEqual([]);
    expect(manifest.gypfile).toBe(false);
    expect(manifest.files).not.toContain('binding.gyp');
  });

  test('pins what it depends on, and native/ builds with what the repository builds with', () => {
    const all = { ...manifest.dependencies, ...manifest.devDependencies };
    expect(Object.values<string>(all).filter((version) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
    for (const [name, version] of Object.entries(native.dependencies)) expect(all[name]).toBe(version);
  });

  test('the lock file names no addresses and every package with its version', () => {
    const lock = JSON.parse(read('package-lock.json')) as { packages: Record<string, Record<string, unknown>> };
    const entries = Object.entries(lock.packages).filter(([path]) => path !== '');
    expect(entries.filter(([, entry]) => 'resolved' in entry).map(([path]) => path)).toEqual([]);
    const missing = entries.flatMap(([, entry]) =>
      Object.keys((entry['optionalDependencies'] as object) ?? {}).filter(
        (name) => !entries.some(([path]) => path === `node_modules/${name}` || path.endsWith(`/node_modules/${name}`)),
      ),
    );
    expect(missing, '`npm ci` refuses a lock file that leaves out packages for other platforms').toEqual([]);
  });
});

describe('documents', () => {
  const pages = [
    ...readdirSync(root).filter((name) => name.endsWith('.md')),
    ...files('docs', '.md'),
    ...files('bench', '.md'),
  ];

  test('those that a newcomer looks for exist', () => {
    const wanted = ['README.md', 'ARCHITECTURE.md', 'CHANGELOG.md', 'LICENSE'];
    expect(wanted.filter((path) => !existsSync(join(root, path)))).toEqual([]);
  });

  test('what the README links to is in the package, except what only a clone has', () => {
    const { files: packed } = JSON.parse(read('package.json')) as { files: string[] };
    const links = [...read('README.md').matchAll(/\]\(([^)\s#:]+)\)/g)].map(([, target]) => target!);
    expect(links).toContain('SECURITY.md');
    const missing = links.filter((link) => !packed.some((entry) => link === entry || link.startsWith(`${entry}/`)));
    expect(missing).toEqual(['bench/README.md']);
  });

  // Words of a dialect that a stranger has to read twice.
  const dialect =
    /\b(whoever|whatever comes|nobody|somebody|but for|but by|given up|gives? up|for nothing|so (long|often|many)|of its own|for ever)\b/i;
  // A user of the system, and the text of a published hash.
  const quoted = /-u\W+nobody|Nobody inspects the spammish repetition/;

  test('they name the actor, in the words of the field, and so do sources and names of tests', () => {
    const sources = ['native', 'src', 'test', 'bench', 'scripts'].flatMap((folder) =>
      files(folder, '.h', '.c', '.cc', '.ts', '.mts', '.mjs'),
    );
    const wrong = faults([...pages, ...sources], (line) => {
      if (quoted.test(line) || line.includes(dialect.source)) return undefined;
      const [, name = ''] = /^TEST\(\w+, (\w+)\)/.exec(line) ?? [];
      return dialect.exec(`${line} ${name.replace(/[A-Z]/g, ' $&')}`)?.[0];
    });
    expect(wrong).toEqual([]);
  });

  test('their links to files lead somewhere', () => {
    const wrong = faults(pages, (line, path) => {
      for (const [, target = ''] of line.matchAll(/\]\(([^)\s]+)\)/g)) {
        const file = target.split('#')[0] ?? '';
        if (file === '' || /^[a-z]+:/.test(file)) continue;
        if (!existsSync(resolve(root, dirname(path), file))) return `${target} does not exist`;
      }
      return undefined;
    });
    expect(wrong).toEqual([]);
  });
});
