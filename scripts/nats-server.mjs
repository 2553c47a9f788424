// Prints the path of the nats-server that tests and benches of a cluster run, and builds it if none is here yet.

import { findNatsServer } from './lib/nats-server.mjs';
import { main } from './lib/project.mjs';

await main(() => console.log(findNatsServer()));
