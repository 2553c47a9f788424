/**
 * The scribe's thread. It runs no event loop: it works until the log is closed, and hears commands between its turns.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { nodeFiles } from '../log/index.ts';
import { openEmbeddedLog } from './embedded.ts';
import { Hearing } from './hearing.ts';
import { plainError, type ScribeData } from './message.ts';
import type { Scribe } from './scribe.ts';
import { attachScribe, startScribe } from './start.ts';

const data = workerData as ScribeData;
const clock = { wallMs: () => Date.now(), steadyMs: () => performance.now() };
const hearing = new Hearing(parentPort!, data.cacheId);

function start(): Scribe | undefined {
  try {
    return startScribe({
      data,
      handle: attachScribe(data.cacheId),
      openLog: openEmbeddedLog(nodeFiles),
      clock,
      hear: () => hearing.hear(),
      say: (report) => hearing.say(report),
    });
  } catch (error) {
    hearing.say({ kind: 'failed', error: plainError(error) });
    return undefined;
  }
}

const scribe = start();
hearing.hello();
// What it throws is a fault of ours: the thread dies of it, and the keeper starts another.
const outcome = scribe?.run();
if (outcome instanceof Error) hearing.say({ kind: 'failed', error: plainError(outcome) });
hearing.close();
