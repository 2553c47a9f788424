// The scribe over a log that answers late, in any order, and sometimes not at all: a window of groups in flight, each
// committed to the rings when the log has it. Proves, over seeds: every record gets into the log exactly once per group
// that was submitted, in the order of the rings; nothing is committed to the rings that is not in the log; and what was
// refused or unknown goes on by itself.

import { describe, expect, test } from 'vitest';
import { FeedState } from '../../src/native.ts';
import { CONTROL_WORDS, type Command, type Report } from '../../src/scribe/message.ts';
import { Metrics } from '../../src/scribe/metrics.ts';
import { Scribe } from '../../src/scribe/scribe.ts';
import { LatentLog, type LatentOptions } from '../support/latent-log.ts';
import { keysOf } from '../support/logs.ts';
import { MemoryFeed } from '../support/memory-feed.ts';
import { MemoryStream } from '../support/memory-log.ts';
import { Random } from '../support/random.ts';

class Desk {
  readonly stream = new MemoryStream();
  readonly log: LatentLog;
  readonly feed: MemoryFeed;
  readonly scribe: Scribe;
  readonly reports: Report[] = [];
  readonly commands: Command[] = [];
  nowMs = 0;
  say = (report: Report): void => void this.reports.push(report);

  constructor(seed: number, options: Partial<LatentOptions> = {}) {
    this.log = new LatentLog(this.stream, 1n, seed, options);
    this.log.takeOver();
    this.feed = new MemoryFeed(this.log.epoch);
    const pass = (ms: number): void => {
      this.nowMs += ms;
    };
    this.feed.onWait = pass;
    this.scribe = new Scribe({
      handle: this.feed.handle,
      log: this.log,
      clock: { wallMs: () => this.nowMs, steadyMs: () => this.nowMs },
      metrics: new Metrics(),
      snapshots: { everyMs: 0, logBytes: 2 ** 40, isTakenAtClose: true },
      logBytes: 0,
      control: new Int32Array(CONTROL_WORDS),
      hear: () => this.commands.shift(),
      say: (report) => this.say(report),
      sleep: pass,
    });
  }

  turnUntil(condition: () => boolean): void {
    for (let i = 0; !condition(); i++) {
      if (i === 20_000) throw new Error('It did not come to that in 20,000 turns');
      this.scribe.turn();
    }
  }

  answerTo(id: number): Extract<Report, { kind: 'done' }> | undefined {
    return this.reports.find((report) => report.kind === 'done' && report.id === id) as never;
  }

  /** The keys in the stream itself, whatever the scribe knows of it. */
  keys(): string[] {
    return this.stream.messages.flatMap((message) => (message.kind === 'records' ? keysOf(message) : []));
  }
}

describe('a log that answers late', () => {
  test.each([
    ['', {}],
    [', and loses requests and answers', { lossOneIn: 5 }],
    [', one group at a time', { windowMax: 1, lossOneIn: 5 }],
    [', with a full window', { windowMax: 16, latencyMax: 30 }],
    [', with a larger window than the rings have turns', { windowMax: 100, latencyMax: 300 }],
  ])('%s gets every record once and in order', (_, options) => {
    for (let seed = 1; seed <= 25; seed++) {
      const random = new Random(seed);
      const desk = new Desk(seed, options);
      const written: string[] = [];
      let inFlightMost = 0;
      for (let round = 0; round < 60; round++) {
        for (let i = random.below(4); i > 0; i--) {
          written.push(`k${written.length}`);
          desk.feed.set(written.at(-1)!, 'v');
        }
        desk.scribe.turn();
        const inLog = desk.keys();
        const committed = written.length - desk.feed.uncommitted;
        expect(inLog.slice(0, committed), `seed ${seed}`).toEqual(written.slice(0, committed));
        inFlightMost = Math.max(inFlightMost, desk.feed.turnsInFlight);
      }
      desk.turnUntil(() => desk.feed.uncommitted === 0);
      expect(desk.keys(), `seed ${seed}`).toEqual(written);
      if ('windowMax' in options && options.windowMax === 1) expect(inFlightMost).toBe(1);
      else expect(inFlightMost, `seed ${seed}`).toBeGreaterThan(1);
      expect(desk.feed.state).not.toBe(FeedState.failed);
    }
  });

  test('that is full for a while refuses, and goes on with the same groups in their order', () => {
    for (let seed = 1; seed <= 10; seed++) {
      const desk = new Desk(seed, { lossOneIn: 6 });
      desk.feed.set('a', 'v');
      desk.turnUntil(() => desk.feed.uncommitted === 0);
      desk.log.isFull = true;
      const written = ['a'];
      for (let i = 0; i < 5; i++) {
        written.push(`k${i}`);
        desk.feed.set(`k${i}`, 'v');
        desk.scribe.turn();
      }
      desk.turnUntil(() => desk.feed.state === FeedState.full || desk.feed.state === FeedState.failed);
      expect(desk.keys()).toEqual(['a']);
      desk.log.isFull = false;
      desk.turnUntil(() => desk.feed.uncommitted === 0);
      expect(desk.feed.state).toBe(FeedState.running);
      expect(desk.keys()).toEqual(written);
    }
  });

  test('that is busy and loses an answer now and then is not refused for that', () => {
    for (let seed = 1; seed <= 10; seed++) {
      const desk = new Desk(seed, { windowMax: 16, latencyMax: 30, lossOneIn: 40 });
      for (let i = 0; desk.nowMs < 15_000; i++) {
        desk.feed.set(`k${i}`, 'v');
        desk.scribe.turn();
        desk.nowMs += 1;
        expect(desk.feed.state, `seed ${seed}, after ${desk.nowMs} ms`).not.toBe(FeedState.failed);
      }
    }
  });

  test('is waited for by a sync, a snapshot and a close', () => {
    for (let seed = 1; seed <= 10; seed++) {
      const desk = new Desk(seed, { lossOneIn: 6 });
      for (let i = 0; i < 20; i++) desk.feed.set(`k${i}`, 'v');
      const targets = new BigUint64Array(1);
      desk.feed.readTargets(targets);
      desk.commands.push({ kind: 'sync', id: 1, targets }, { kind: 'snapshot', id: 2 });
      desk.turnUntil(() => desk.answerTo(1) !== undefined && desk.answerTo(2) !== undefined);
      expect(desk.answerTo(1)?.error).toBeUndefined();
      expect(desk.keys()).toHaveLength(20);
      // Its position is behind all of the records.
      const end = desk.answerTo(1)?.result as bigint;
      const before = [...desk.log.entries(0n)].filter((entry) => entry.end <= end);
      expect(before.flatMap(keysOf)).toHaveLength(20);
      desk.commands.push({ kind: 'cursor', id: 4, name: 'feed', act: { advance: end } });
      desk.commands.push({ kind: 'cursor', id: 5, name: 'feed', act: 'position' });
      desk.turnUntil(() => desk.answerTo(5) !== undefined);
      expect(desk.answerTo(4)?.error).toBeUndefined();
      expect(desk.answerTo(5)?.result).toBe(end);
      expect(desk.answerTo(2)?.result).toMatchObject({ entries: 20 });
      desk.feed.set('last', 'v');
      desk.commands.push({ kind: 'close', id: 3, timeoutMs: 0, takesSnapshot: true });
      expect(desk.scribe.run()).toBe('closed');
      expect(desk.answerTo(3)?.error).toBeUndefined();
      expect(desk.keys().at(-1)).toBe('last');
    }
  });

  test('is asked once in a millisecond, and not without a pause, whether it is durable for a snapshot', () => {
    const desk = new Desk(3, { latencyMax: 400 });
    desk.feed.set('a', 'v');
    desk.turnUntil(() => desk.feed.uncommitted === 0);
    desk.feed.events.length = 0;
    desk.commands.push({ kind: 'snapshot', id: 1 });
    let turns = 0;
    desk.turnUntil(() => {
      turns++;
      return desk.answerTo(1) !== undefined;
    });
    const waits = desk.feed.events.filter(({ kind }) => kind === 'wait').length;
    expect(desk.answerTo(1)?.error).toBeUndefined();
    expect(waits).toBeGreaterThan(50);
    expect(turns - waits, 'turns of the walk').toBeLessThan(10);
  });

  test('makes a sync wait for what was done before it, not for groups that keep coming', () => {
    let seedsWithMore = 0;
    for (let seed = 1; seed <= 10; seed++) {
      const desk = new Desk(seed, { latencyMax: 20 });
      desk.feed.set('a', 'v');
      const targets = new BigUint64Array(1);
      desk.feed.readTargets(targets);
      desk.commands.push({ kind: 'sync', id: 1, targets });
      let count = 0;
      desk.turnUntil(() => {
        desk.feed.set(`k${count++}`, 'v');
        return desk.answerTo(1) !== undefined;
      });
      expect(desk.answerTo(1)?.error).toBeUndefined();
      expect(count, `seed ${seed}`).toBeLessThan(500);
      expect([...desk.log.entries(desk.log.oldestReadable, 'durable')].flatMap(keysOf)[0]).toBe('a');
      if (desk.log.durable < desk.log.committed) seedsWithMore++;
    }
    expect(seedsWithMore).toBeGreaterThan(2);
  });

  test('has all that was done during the last snapshot when it is closed', () => {
    for (let seed = 1; seed <= 10; seed++) {
      const desk = new Desk(seed, { lossOneIn: 6, latencyMax: 20 });
      desk.feed.set('first', 'v');
      desk.commands.push({ kind: 'close', id: 1, timeoutMs: 0, takesSnapshot: true });
      const written = ['first'];
      const hasSnapshot = (): boolean => desk.reports.some((r) => r.kind === 'notice' && r.notice.kind === 'snapshot');
      // The last of them come in the turn in which the snapshot is complete.
      const { say } = desk;
      desk.say = (report) => {
        say(report);
        if (report.kind !== 'notice' || report.notice.kind !== 'snapshot') return;
        written.push('last');
        desk.feed.set('last', 'v');
      };
      for (let i = 0; !hasSnapshot(); i++) {
        written.push(`k${i}`);
        desk.feed.set(`k${i}`, 'v');
        desk.scribe.turn();
      }
      expect(desk.scribe.run()).toBe('closed');
      expect(desk.answerTo(1)?.error).toBeUndefined();
      expect(desk.keys(), `seed ${seed}`).toEqual(written);
    }
  });

  test('that another writer has taken over ends the scribe', () => {
    const desk = new Desk(3);
    desk.feed.set('a', 'v');
    desk.turnUntil(() => desk.feed.uncommitted === 0);
    const other = new LatentLog(desk.stream, 2n, 4);
    other.takeOver();
    for (const key of ['b', 'c', 'd']) {
      desk.feed.set(key, 'v');
      desk.scribe.turn();
    }
    expect(desk.scribe.run()).toMatchObject({ code: 'ERR_LOG_IO' });
    expect(desk.keys()).toEqual(['a']);
  });
});
