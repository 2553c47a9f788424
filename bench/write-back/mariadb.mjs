// A private MariaDB for the bench: a new data directory with the server's own defaults.

import { createConnection } from 'mariadb';
import { MariadbData } from '../../test/support/database-servers.mjs';

export async function startMariadb(folder) {
  const data = new MariadbData(folder);
  data.make();
  const server = data.run();
  const { socket: socketPath } = data;
  const connection = await server.isUp(() => createConnection({ socketPath, user: 'root' }));
  await connection.query('CREATE DATABASE bench');
  await connection.query('USE bench');
  return {
    connection,
    target: { socketPath, user: 'root', database: 'bench' },
    async stop() {
      await connection.end();
      await server.end();
    },
  };
}
