#!/usr/bin/env node
/**
 * The command `cairn`: one file per subcommand. What a subcommand needs is loaded when it runs, so that `build`, `help`
 * and `--version` work where the addon is missing.
 */
import { Command } from 'commander';
import { version } from '../version.ts';
import { configCommand } from './config.ts';
import { deadLettersCommand } from './dead-letters.ts';
import { logCommand } from './log.ts';
import { rebuildCommand } from './rebuild.ts';
import { serveCommand } from './serve.ts';
import { tortureCommand } from './torture.ts';

/** Makes the whole command line, ready to parse. */
export function makeProgram(): Command {
  const program = new Command('cairn-cache')
    .description('A byte-bounded cache outside the JavaScript heap that memcached clients can talk to')
    .version(version, '-V, --version', 'print the version and exit')
    .helpOption('-h, --help', 'print this help and exit')
    .showHelpAfterError('(npx cairn-cache help shows what there is)')
    .configureHelp({ showGlobalOptions: false })
    .enablePositionalOptions();
  program.addCommand(serveCommand());
  program.addCommand(configCommand());
  program.addCommand(logCommand());
  program.addCommand(deadLettersCommand());
  program.addCommand(rebuildCommand());
  program.addCommand(tortureCommand());
  program
    .command('build')
    .description('build the native addon where no prebuilt one fits this machine')
    .option('--verbose', 'show everything that CMake and the compiler say')
    .action(async (options: { verbose?: boolean }) => {
      const { build } = await import('./build.ts');
      process.exitCode = await build(options);
    });
  return program;
}

// A reader that went away (`cairn serve | head`) is no reason to stop.
process.stdout.on('error', () => {});
process.stderr.on('error', () => {});
await makeProgram().parseAsync();
