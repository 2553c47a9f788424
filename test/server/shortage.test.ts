// A server whose process may open no more files: those that it serves are served on, new clients wait, and it says so.
import { afterEach, expect, vi } from 'vitest';
import { MemcachedSocket } from '../support/memcached-socket.ts';
import { type CliProcess, startCli } from '../support/serve-process.ts';
import { skipUnless } from '../support/skip.ts';

const FILES = 80;

let server: CliProcess | undefined;
const clients: MemcachedSocket[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  await server?.stop();
});

const onLinux = skipUnless(process.platform === 'linux', 'only the native front counts this', 'platform');

onLinux(
  'a server that may open no more files serves on, warns once for each such time, and accepts again',
  async () => {
    server = startCli(['serve', '-p', '-1', '-t', '1'], {}, `ulimit -n ${FILES}`);
    await server.printed('Listening on');
    const port = Number(/127\.0\.0\.1:(\d+)/.exec(server.stdout)?.[1]);
    const statsOf = async (client: MemcachedSocket) => {
      const stats = await client.ask('stats\r\n', 'END\r\n');
      return (name: string) => Number(new RegExp(`^STAT ${name} (\\d+)`, 'm').exec(stats)?.[1]);
    };
    const open = async () => {
      const client = await MemcachedSocket.open(port);
      clients.push(client);
      return client;
    };
    const established = await open();
    expect(await established.ask('mn\r\n')).toBe('MN\r\n');
    const warnings = () => server!.stderr.split('may open no more files (EMFILE)').length - 1;

    for (let times = 1; times <= 2; times++) {
      const crowd: MemcachedSocket[] = [];
      // The system completes their connections; the server cannot take all of them.
      for (let i = 0; i < FILES; i++) crowd.push(await open());
      await vi.waitUntil(() => warnings() === times, { timeout: 60_000 });
      const during = await statsOf(established);
      expect(during('accepting_conns')).toBe(0);
      expect(during('listen_disabled_num')).toBe(times);
      expect(during('curr_connections')).toBeLessThan(FILES);
      const last = crowd.pop()!;
      last.send('mn\r\n');
      for (const client of crowd) client.destroy();
      await last.until('an answer', () => last.receivedBytes > 0);
      expect(last.take()).toBe('MN\r\n');
      last.destroy();
      await vi.waitUntil(async () => (await statsOf(established))('accepting_conns') === 1, { timeout: 60_000 });
      expect((await statsOf(established))('time_in_listen_disabled_us')).toBeGreaterThan(0);
    }
    expect(warnings()).toBe(2);
  },
);
