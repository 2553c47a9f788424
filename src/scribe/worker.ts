/** The scribe's thread. It runs no event loop: it works until the log is closed, and hears commands between its turns. */
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { nodeFiles } from '../log/index.ts';
import { type Command, plainError, type Report, type ScribeData } from './message.ts';
import type { Scribe } from './scribe.ts';
import { startScribe } from './start.ts';

const port = parentPort!;
const clock = { wallMs: () => Date.now(), steadyMs: () => performance.now() };
const say = (report: Report): void => port.postMessage(report);
const hear = (): Command | undefined => receiveMessageOnPort(port)?.message as Command | undefined;

function start(): Scribe | undefined {
  try {
    return startScribe({ data: workerData as ScribeData, files: nodeFiles, clock, hear, say });
  } catch (error) {
    say({ kind: 'failed', error: plainError(error) });
    return undefined;
  }
}

// What it throws is a fault of ours: the thread dies of it, and the keeper starts another.
const outcome = start()?.run();
if (outcome instanceof Error) say({ kind: 'failed', error: plainError(outcome) });
