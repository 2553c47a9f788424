// A private PostgreSQL for a bench: a new cluster with its own defaults, fsync included.

import pg from 'pg';
import { PostgresCluster } from '../../test/support/database-servers.mjs';

/** Resolves to `{ url, stop() }`. `folder` must not exist yet. Throws RangeError where there is no PostgreSQL. */
export async function startPostgres(folder) {
  const cluster = new PostgresCluster(folder, 'bench');
  cluster.make();
  const server = cluster.run('INT');
  const url = `postgresql://${cluster.user}@${encodeURIComponent(folder)}/postgres`;
  await server.isUp(async () => {
    const client = new pg.Client({ connectionString: url });
    client.on('error', () => {});
    await client.connect();
    await client.end();
  });
  return { url, stop: () => server.end() };
}
