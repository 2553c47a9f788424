/**
 * Finds and loads the addon. It is looked for in this order:
 *
 * 1. the file that `CAIRN_NATIVE_PATH` names; when it is set nothing else is tried;
 * 2. `native/build/Release/cairn.node`, which a build on this machine leaves;
 * 3. `prebuilds/<platform>-<arch>-musl.node`, where the C library is musl;
 * 4. `prebuilds/<platform>-<arch>.node`, which the package brings. The Linux ones are linked so that they load on musl
 *    too.
 *
 * A file that exists but does not load (for example, one built for another C library) does not end the search.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { CairnError } from '../errors.ts';

const require = createRequire(import.meta.url);

/** The same two folders up from src/native/ and from dist/native/. */
const packageRoot: string = fileURLToPath(new URL('../..', import.meta.url));

/**
 * Loads the addon into this thread's environment and returns what it exports; native.ts knows the type.
 * Throws `ERR_NATIVE_MISSING` with all that was tried and what helps: most often the command that builds one. Safe to
 * call again: Node keeps one instance per environment.
 */
export function loadNative(): unknown {
  const tried: string[] = [];
  let cause: unknown;
  for (const file of candidates()) {
    if (!existsSync(file)) {
      tried.push(`  ${file}: not there`);
      continue;
    }
    try {
      return require(file);
    } catch (error) {
      cause ??= error;
      tried.push(
        `  ${file}: found, but did not load: ${error instanceof Error ? error.message.split('\n')[0] : error}`,
      );
    }
  }
  throw nativeMissing(tried, cause);
}

// This machine in the names of prebuilt files.
function nativeTarget(): string {
  return `${process.platform}-${process.arch}`;
}

function candidates(): string[] {
  const named = process.env['CAIRN_NATIVE_PATH'];
  if (named !== undefined && named !== '') return [resolve(named)];
  const prebuild = (name: string) => join(packageRoot, 'prebuilds', `${name}.node`);
  return [
    join(packageRoot, 'native', 'build', 'Release', 'cairn.node'),
    ...(isMusl() ? [prebuild(`${nativeTarget()}-musl`)] : []),
    prebuild(nativeTarget()),
  ];
}

// The C library's loader is mapped into this process; musl's has its own name.
function isMusl(): boolean {
  if (process.platform !== 'linux') return false;
  try {
    return /\/ld-musl-[^/\s]*\.so/.test(readFileSync('/proc/self/maps', 'latin1'));
  } catch {
    return false; // No /proc: glibc is by far the likelier, and a wrong guess costs one failed attempt.
  }
}

function nativeMissing(tried: string[], cause: unknown): CairnError {
  const named = process.env['CAIRN_NATIVE_PATH'];
  const folder = join(packageRoot, 'prebuilds');
  const present = existsSync(folder) ? readdirSync(folder).filter((name) => name.endsWith('.node')) : [];
  const lines = [
    `No native addon for ${nativeTarget()}${isMusl() ? ' (musl)' : ''} on Node ${process.versions.node}. Looked for:`,
    ...tried,
    `Prebuilt addons in this package: ${present.length > 0 ? present.join(', ') : 'none'}.`,
    named ? 'CAIRN_NATIVE_PATH is set, so nothing else was tried.' : remedy(cause),
  ];
  return new CairnError('ERR_NATIVE_MISSING', lines.join('\n'), cause === undefined ? undefined : { cause });
}

function remedy(cause: unknown): string {
  if ((cause as NodeJS.ErrnoException | undefined)?.code === 'ERR_DLOPEN_DISABLED') {
    return 'This process was started with --no-addons, or with --permission and without --allow-addons.';
  }
  if (!isInPackage()) {
    return `${packageRoot} is not the package: a bundler must leave cairn-cache out (esbuild: --external:cairn-cache).`;
  }
  return 'To build one here: npx cairn-cache build';
}

// A bundler takes this file into one of the program's, which has no addon beside it.
function isInPackage(): boolean {
  try {
    return JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')).name === 'cairn-cache';
  } catch {
    return false;
  }
}
