// The recorded transcripts, read.

import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Transcript } from './transcripts/play.mjs';

const folder = fileURLToPath(new URL('transcripts', import.meta.url));

/** Every transcript with its name. */
export const transcripts: readonly { name: string; transcript: Transcript }[] = readdirSync(folder)
  .filter((name) => name.endsWith('.json'))
  .sort()
  .map((name) => ({
    name: name.slice(0, -'.json'.length),
    transcript: JSON.parse(readFileSync(`${folder}/${name}`, 'utf8')) as Transcript,
  }));

/** Writes the files of a transcript into a folder, if it has any. Returns its flags, with their paths. */
export function flagsOf({ start, files }: Transcript): { flags: string[]; folder?: string } {
  if (files === undefined) return { flags: start };
  const folder = mkdtempSync(join(tmpdir(), 'cairn-transcript-'));
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  const flags = start.map((flag) => flag.replace(/\{file:([^}]+)\}/, (_, name) => join(folder, name)));
  return { flags, folder };
}
