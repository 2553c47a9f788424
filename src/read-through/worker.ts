/** The loader's thread. It has an event loop: the drivers of databases need one. */
import { parentPort, workerData } from 'node:worker_threads';
import { type LoadHandle, native } from '../native.ts';
import { plainError } from '../scribe/index.ts';
import { beat, PULSE_MS } from '../supervisor.ts';
import { connector } from '../write-back/index.ts';
import type { ReaderData, ReaderReport } from './message.ts';
import { ReadThroughService } from './service.ts';

const { cacheId, store, number, rules, loads, warmUp, pulse } = workerData as ReaderData;
const port = parentPort!;
// A module may take long to load. From then on the service shows that the event loop turns.
const beating = setInterval(() => beat(pulse), PULSE_MS).unref();
// The thread lives while its port is open.
port.on('message', () => {});
const say = (report: ReaderReport): void => {
  port.postMessage(report);
  if (report.kind === 'closed') port.close();
};

async function start(): Promise<void> {
  let connect: Awaited<ReturnType<typeof connector>>;
  try {
    connect = await connector(store, { rules, readsOnly: true });
  } catch (error) {
    say({ kind: 'refused', error: plainError(error) });
    return;
  }
  const handle = native.attachById(cacheId);
  if (typeof handle === 'number') {
    say({ kind: 'closed' });
    return;
  }
  handle.useBackend(number);
  new ReadThroughService({ handle: handle as LoadHandle, connect, rules, loads, warmUp, pulse, say });
}

await start();
clearInterval(beating);
