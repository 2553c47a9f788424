// The recorded transcripts, read.

import { readdirSync, readFileSync } from 'node:fs';
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
