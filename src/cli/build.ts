/**
 * `cairn-cache build`: builds the addon inside the installed package, where no prebuilt one fits. The work is done by
 * native/build.mjs, which the package brings beside the sources; this is its face for the command line.
 *
 * Imports nothing that loads the addon: there is none yet.
 */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

/** What native/build.mjs exports and is used here. */
interface NativeBuild {
  buildAddon(options: { verbose: boolean; log: (line: string) => void }): string;
  BuildError: new (message: string) => Error;
}

export interface BuildOptions {
  /** Pass on everything that CMake and the compiler say; default false: only when the build fails. */
  verbose?: boolean;
  /** Takes one line at a time; default standard error. */
  log?: (line: string) => void;
}

/**
 * Builds the addon and loads it once as a proof. Resolves to the exit code: 0, or 1 after having logged what is missing
 * (a compiler, a writable folder, npm) and what to do about it. Rejects only on a fault of ours.
 */
export async function build(options: BuildOptions = {}): Promise<number> {
  const { verbose = false, log = console.error } = options;
  const script = new URL('../../native/build.mjs', import.meta.url);
  const { buildAddon, BuildError } = (await import(script.href)) as NativeBuild;
  try {
    log(`Building the native addon in ${fileURLToPath(new URL('.', script))}`);
    const file = buildAddon({ verbose, log });
    createRequire(import.meta.url)(file);
    log(`Built ${file}`);
    return 0;
  } catch (error) {
    if (!(error instanceof BuildError)) throw error;
    log(error.message);
    return 1;
  }
}
