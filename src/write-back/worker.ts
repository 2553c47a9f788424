/** The writer's thread. It has an event loop: the drivers of databases need one. */
import { parentPort, workerData } from 'node:worker_threads';
import { LogReader } from '../log/index.ts';
import type { BackedHandle, LoadHandle } from '../native.ts';
import { attachScribe, plainError, RecordFinder, RemoteScribe } from '../scribe/index.ts';
import { beat, PULSE_MS } from '../supervisor.ts';
import { systemClock } from './clock.ts';
import { FilesLog } from './files-log.ts';
import { cursorOf, type WriterData, type WriterReport, type WriterTold } from './message.ts';
import { WriterService } from './service.ts';
import { connector } from './store.ts';
import { storedMarks } from './stored-marks.ts';

const { cacheId, files, store, seat, options, isPaused, pulse, reached, numbers, warmUpNumbers } =
  workerData as WriterData;
const port = parentPort!;
// A module may take long to load. From then on the service shows that the event loop turns.
const beating = setInterval(() => beat(pulse), PULSE_MS).unref();
const say = (report: WriterReport): void => port.postMessage(report);

async function start(): Promise<WriterService | undefined> {
  let connect: Awaited<ReturnType<typeof connector>>;
  try {
    connect = await connector(store, { directory: files.directory, rules: options.rules, lanes: options.lanes });
  } catch (error) {
    say({ kind: 'failed', error: plainError(error) });
    return undefined;
  }
  const handle = attachScribe(cacheId, seat.number) as LoadHandle & BackedHandle;
  const scribe = new RemoteScribe(handle);
  const confirmed = (await scribe.cursor(cursorOf(seat.name)).position()) ?? 0n;
  return new WriterService({
    log: new FilesLog({ files, scribe, store: seat.name, confirmed, syncs: options.syncsLog }),
    marksOf: storedMarks(files, handle, options.dropsRefused, seat.name),
    finder: new RecordFinder(handle, new LogReader(files)),
    connect,
    seat,
    options,
    isPaused,
    clock: systemClock,
    random: Math.random,
    pulse,
    reached,
    numbers,
    warmUpNumbers,
    handle,
    say,
  });
}

const service = await start();
clearInterval(beating);
if (service === undefined) port.close();
else {
  port.on('message', async (command: WriterTold) => {
    await service.obey(command);
    if (command.kind === 'close') port.close();
  });
  // What it throws is a fault of ours: the thread dies of it, and the keeper starts another.
  await service.ended;
}
