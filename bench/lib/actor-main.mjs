// The process of an actor; see actors.mjs.

import { measure } from './clock.mjs';

const [, , moduleUrl, name, options] = process.argv;
const { actor } = await import(moduleUrl);
const { steps = {}, calls = {} } = await actor(name, JSON.parse(options));
const warm = new Set();

async function answer(message) {
  if ('call' in message) return { result: await calls[message.call](message.argument) };
  const pass = steps[message.measure];
  if (pass === undefined) return { missing: true };
  if (!warm.has(message.measure)) {
    // Until the optimising compiler has had its say.
    await measure(pass, message.ms);
    warm.add(message.measure);
  }
  // Each measurement begins with an empty nursery, because it matters whose garbage it is, and with the processor's
  // caches as the pass leaves them, because another actor has just had them.
  globalThis.gc?.({ type: 'minor' });
  await pass();
  return measure(pass, message.ms);
}

process.on('message', async (message) => process.send(await answer(message)));
process.on('disconnect', () => process.exit());
process.send('ready');
