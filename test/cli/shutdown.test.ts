// `cairn serve -A`: a client ends the process, in the same order as a signal does.

import { join } from 'node:path';
import { expect, test } from 'vitest';
import { hasNativeFront } from '../../src/server/native-front.ts';
import { ServedFolder } from '../support/served-folder.ts';

const folder = new ServedFolder('shutdown');

const fronts = hasNativeFront() ? ['native', 'node'] : ['node'];

test.each(fronts.flatMap((front) => ['shutdown', 'shutdown graceful'].map((line) => [front, line] as const)))(
  'with the front %s, %s lets the log have what was answered, and ends with code 0',
  async (front, line) => {
    const data = join(folder.path, 'data');
    const options = ['--front', front, '--data', data, '--ack', 'memory', '--sync', 'none'];
    const server = await folder.serve(['-A', ...options]);
    const client = await folder.open(server);
    const keys = Array.from({ length: 1000 }, (_, i) => `key${i}`);
    client.send(`${keys.map((key) => `set ${key} 0 0 1\r\n1\r\n`).join('')}${line}\r\n`);
    expect(await client.ending()).toBe('STORED\r\n'.repeat(keys.length));
    client.destroy();
    expect(await server.ended).toEqual({ code: 0, signal: null });
    expect(server.stdout).toContain('A client has ended this server (shutdown)\n');
    expect(server.stdout).toContain(`Stopped: 1,000 entries are kept in ${data}\n`);
    const again = await folder.serve(options);
    const reader = await folder.open(again);
    const found = await reader.ask(`get ${keys.join(' ')}\r\n`, 'END\r\n');
    expect(found.match(/^VALUE /gm)?.length).toBe(keys.length);
  },
);
