// Rivals in processes of their own, measured in turns.
//
// An actor is a child process in which one cache (or the control) is set up once and then measured whenever it is
// asked: its heap, its compiled code and its garbage are its own. The parent asks all actors in turn, round after
// round, so that a change of the machine meets all of them; the actors that are not asked sleep.
//
// A module that has actors exports `actor(name, options)`; it returns { steps: { name: pass } } with passes as
// clock.mjs's measure() wants them, and whatever else call() is to reach in `calls`.

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { ratio, summary } from './statistics.mjs';

const main = fileURLToPath(new URL('./actor-main.mjs', import.meta.url));

class Actor {
  #child;
  #exited;
  name;

  constructor(moduleUrl, name, options, execArgv) {
    this.name = name;
    this.#child = fork(main, [moduleUrl, name, JSON.stringify(options)], { execArgv });
    this.#exited = once(this.#child, 'exit');
  }

  /** The next message of the child; throws if it ends instead. */
  async #answer() {
    const stop = new AbortController();
    try {
      const answer = once(this.#child, 'message', { signal: stop.signal });
      const [message] = await Promise.race([
        answer,
        this.#exited.then(([code, signal]) => {
          throw new Error(`The process that measures ${this.name} ended with ${signal ?? `code ${code}`}`);
        }),
      ]);
      return message;
    } finally {
      stop.abort();
    }
  }

  ready() {
    return this.#answer();
  }

  ask(message) {
    this.#child.send(message);
    return this.#answer();
  }

  // Its exit handlers remove its files.
  async stop() {
    if (this.#child.connected) this.#child.disconnect();
    await this.#exited;
  }
}

/** Starts the named actors of a module, runs `body` with them by name, and ends them. */
export async function withActors(moduleUrl, names, { options = {}, execArgv = ['--expose-gc'] }, body) {
  const actors = new Map(names.map((name) => [name, new Actor(moduleUrl, name, options, execArgv)]));
  try {
    for (const actor of actors.values()) await actor.ready();
    return await body(actors);
  } finally {
    for (const actor of actors.values()) await actor.stop();
  }
}

/**
 * Measures steps on actors in alternating rounds. Returns samples[step][actor] = { cpu: [], all: [], wall: [] }, a
 * number for each round. An actor that lacks a step is left out of it.
 */
export async function alternate(actors, steps, { rounds, ms }) {
  const samples = {};
  for (let round = 0; round < rounds; round++) {
    for (const step of steps) {
      // In turn from either side: who goes first is not always the same.
      const order = round % 2 === 0 ? [...actors.values()] : [...actors.values()].reverse();
      for (const actor of order) {
        const answer = await actor.ask({ measure: step, ms });
        if (answer.missing) continue;
        samples[step] ??= {};
        samples[step][actor.name] ??= { cpu: [], all: [], wall: [] };
        const kept = samples[step][actor.name];
        for (const clock of ['cpu', 'all', 'wall']) kept[clock].push(answer[clock]);
      }
    }
  }
  return samples;
}

/**
 * What alternate() found, ready to be printed and kept: medians, ranges, and how often `ours` is faster than `rival`.
 */
export function compare(samples, { ours = 'cairn', rival }) {
  return Object.entries(samples).map(([step, byActor]) => ({
    step,
    actors: Object.fromEntries(
      Object.entries(byActor).map(([name, clocks]) => [
        name,
        { cpu: summary(clocks.cpu), all: summary(clocks.all), wall: summary(clocks.wall) },
      ]),
    ),
    ...(byActor[ours] && byActor[rival]
      ? {
          speed: {
            cpu: ratio(byActor[rival].cpu, byActor[ours].cpu),
            all: ratio(byActor[rival].all, byActor[ours].all),
            wall: ratio(byActor[rival].wall, byActor[ours].wall),
          },
        }
      : {}),
  }));
}
