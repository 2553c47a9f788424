/** `cairn config`: which value each option of `cairn serve` would have, and where it comes from. */
import { Command } from 'commander';
import { settingsFor } from './serve.ts';
import { addServeFlags, contradiction, type ServeFlags } from './serve-options.ts';
import { SETTABLE, type Setting, shown } from './settings.ts';

/** Makes the subcommand. */
export function configCommand(): Command {
  const command = new Command('config').description(
    'print the options of `serve` with these flags, and where each comes from: flag, environment, file or default',
  );
  command.option('--json', 'print JSON');
  return addServeFlags(command).action(async ({ json, ...flags }: ServeFlags) => {
    process.exitCode = await run(flags, json === true);
  });
}

interface Line {
  readonly option: string;
  /** Undefined: the default. */
  readonly setting: Setting | undefined;
  /** As docs/api.md says it. */
  readonly default: string;
}

async function run(flags: ServeFlags, asJson: boolean): Promise<number> {
  const settings = await settingsFor('config', flags);
  if (settings === undefined) return 1;
  const lines = [...SETTABLE].map(([option, row]): Line => {
    return { option, setting: settings.get(option), default: plain(row.default) };
  });
  console.log(asJson ? JSON.stringify(Object.fromEntries(lines.map(jsonOf)), null, 2) : tableOf(lines));
  const wrong = contradiction(settings);
  if (wrong === undefined) return 0;
  console.error(`cairn config: ${wrong}`);
  return 1;
}

function jsonOf({ option, setting, default: otherwise }: Line): [string, object] {
  if (setting === undefined) return [option, { default: otherwise }];
  return [option, { value: shown(option, setting), source: setting.source, name: setting.name }];
}

function tableOf(lines: readonly Line[]): string {
  const rows = lines.map(({ option, setting, default: otherwise }) =>
    setting === undefined
      ? [option, otherwise === '' ? '-' : otherwise, 'default']
      : [option, textOf(shown(option, setting)), setting.name],
  );
  const widths = [0, 1].map((i) => Math.max(...rows.map((row) => row[i]!.length)));
  return rows.map((row) => row.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join('  ')).join('\n');
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? `'${value}'` : JSON.stringify(value);
}

// `[chosen](memory.md)` has a link for the page that it is written for.
function plain(text: string): string {
  return text.replace(/\[(.*?)\]\(.*?\)/g, '$1').replaceAll('`', '');
}
