// A connection over a socket that takes bytes when it is told to, by a clock that is moved by hand.

import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Cache } from '../../src/index.ts';
import { Connection, type ConnectionOwner } from '../../src/server/connection.ts';
import { ensureOutput, sessions } from '../../src/server/native-session.ts';
import { startTestService } from '../support/service.ts';

/** Keeps what is written until `leave()`. */
class SlowSocket extends EventEmitter {
  writableLength = 0;
  /** With those that it keeps, as a socket of Node counts them. */
  bytesWritten = 0;
  #written: (() => void)[] = [];

  write(bytes: Buffer, written?: () => void): boolean {
    this.writableLength += bytes.length;
    this.bytesWritten += bytes.length;
    if (written !== undefined) this.#written.push(written);
    return false;
  }

  leave(): void {
    this.writableLength = 0;
    for (const written of this.#written.splice(0)) written();
  }

  pause(): void {}
  resume(): void {}
  destroy(): void {
    this.emit('close');
  }
}

let cache: Cache;
let service: number;
beforeEach(() => {
  cache = new Cache({ maxMemory: '16mb' });
  service = startTestService(cache);
  ensureOutput();
});
afterEach(async () => {
  sessions.endService(service);
  await cache.close();
});

/** A client that connects when the server has been up for this many milliseconds. */
function connect(coarseNow: number) {
  const closed: Connection[] = [];
  const owner = {
    coarseNow,
    setWaiting() {},
    countUnsent() {},
    tick() {},
    connectionClosed: (connection: Connection) => closed.push(connection),
  };
  const socket = new SlowSocket();
  const session = sessions.openSession(service, 'peer', 'listener');
  const connection = new Connection(owner satisfies ConnectionOwner, socket as unknown as Socket, session, 'peer');
  const pass = (ms: number): void => {
    owner.coarseNow += ms;
    connection.checkTimeouts(owner.coarseNow, { idleMs: 0, stallMs: 300 });
  };
  return { connection, socket, closed, pass };
}

test('the stall timeout counts from the last bytes that a client took, not from the first bytes of its replies', () => {
  const { connection, socket, closed, pass } = connect(0);
  cache.set('a', Buffer.alloc(900_000));
  socket.emit('data', Buffer.from('get a\r\n'.repeat(50)));
  for (let replies = 0; replies < 10; replies++) {
    expect(socket.writableLength).toBeGreaterThan(900_000);
    pass(200);
    expect(connection.fault).toBeUndefined();
    socket.leave();
  }
  pass(299);
  expect([connection.fault, closed]).toEqual([undefined, []]);
  pass(1);
  expect([connection.fault, closed]).toEqual(['stalled', [connection]]);
});

test('it counts from when a client came, however long the server had been up', () => {
  const { connection, socket, closed, pass } = connect(1_000_000);
  socket.emit('data', Buffer.from('mn\r\n'));
  expect(socket.writableLength).toBe(4);
  pass(299);
  expect([connection.fault, closed]).toEqual([undefined, []]);
  pass(1);
  expect([connection.fault, closed]).toEqual(['stalled', [connection]]);
});
