/**
 * One client of a server: its socket, and the native session that knows its place in the stream. Every chunk is one
 * native call; the reply is written straight from the session's output buffer.
 *
 * | state   | is                                              | a chunk      | the client ends     | shutDown()    |
 * |---------|-------------------------------------------------|--------------|---------------------|---------------|
 * | open    | reading                                         | fed          | answered, then bye  | answered, bye |
 * | stopped | waiting: replies to leave, a commit, a ticket,  | one is kept  | answered later      | the same      |
 * |         | a time, or its next turn                        |              |                     |               |
 * | ending  | the session is over, its last replies leave     | thrown away  | closed              | -             |
 * | closed  | the client is gone, or a write has failed       | -            | -                   | -             |
 *
 * Memory: the session limits replies that have not left, by stopping at 1 MiB. While it is stopped, the session keeps
 * one chunk, and the socket's read buffer another.
 *
 * Time: a connection makes one native call per chunk or turn of the event loop. A call executes a bounded number of
 * requests and composes about 1 MiB at most; the rest waits for the next turn, so other connections are served between.
 *
 * A client that ends its side may still read, so all its requests are answered, also later. A client that resets the
 * connection is gone: its session is dropped with its pending requests.
 */
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import {
  FLAG_BINARY,
  FLAG_IN_LARGE_REQUEST,
  FLAG_OVERFLOW,
  FLAG_SLOWED,
  FLAG_TLS,
  FLAG_WAITS,
  FLAGS_RANGE,
  NEXT_MASK,
  Next,
  renewOutput,
  sessions,
} from './native-session.ts';

/** What a connection needs from its server. */
export interface ConnectionOwner {
  /** Milliseconds that the server has been listening to its clients; moves a few times a second. */
  readonly coarseNow: number;
  /** The connection waits, or no longer waits; a waiting one is continued when the thread is woken. */
  setWaiting(connection: Connection, waits: boolean): void;
  /** The replies that the client has not taken use these bytes. May drop() connections, also this one. */
  countUnsent(connection: Connection, bytes: number, hasTaken: boolean): void;
  connectionClosed(connection: Connection): void;
  /** To be called before the session is fed or continued: moves the cache's time, where its maker gave a clock. */
  tick(): void;
}

/** Times that a connection may take before it is closed, in milliseconds. */
export interface ConnectionTimeouts {
  /** 0: never. */
  readonly idleMs: number;
  readonly stallMs: number;
}

/** Why a connection was closed before its end: it took too long, or speaks a protocol that is not served. */
export type Fault = 'idle' | 'stalled' | 'output' | 'binary' | 'tls';

const NOTHING: Buffer = Buffer.alloc(0);
/** The most bytes of requests that a connection is fed before other connections get their turn. */
const FED_BYTES_MAX: number = 256 * 1024;
/** How long a client may take to close its side after the server has closed its own. */
const LINGER_MS = 2_000;

export class Connection {
  /** The client's name in `stats conns`. */
  readonly peer: string;
  /** Set before the connection is closed for it. */
  fault: Fault | undefined;

  readonly #owner: ConnectionOwner;
  readonly #socket: Socket;
  readonly #isTls: boolean;
  #session: number;
  #paused = false;
  #waits = false;
  /** Nothing is executed until something happens elsewhere. */
  #sessionWaits = false;
  #isInLargeRequest = false;
  /** proceed() will be called: when the output has left, or in the next turn of the event loop. */
  #resuming = false;
  /** Bytes fed since other connections last had their turn. */
  #fedBytes = 0;
  /** Continues the session after a time. */
  #slowed: NodeJS.Timeout | undefined;
  #shutDown = false;
  #activeAt: number;
  #stoppedAt = -1;
  /** Bytes of replies that have left, and since when there are no more of them. */
  #leftBytes = 0;
  #leftAt: number;
  #endingAt = -1;
  readonly #flushed = (error?: Error | null): void => {
    this.#resuming = false;
    this.#countUnsent();
    // The client takes no replies: the next write would fail as well.
    if (error) {
      this.destroy();
      return;
    }
    // The client takes what it is sent, however slowly.
    this.#stoppedAt = -1;
    this.proceed();
  };
  readonly #turned = (): void => {
    this.#resuming = false;
    this.proceed();
  };

  readonly #waited = (): void => {
    this.#slowed = undefined;
    this.proceed();
  };

  constructor(owner: ConnectionOwner, socket: Socket, session: number, peer: string) {
    this.peer = peer;
    this.#owner = owner;
    this.#socket = socket;
    this.#isTls = socket instanceof TLSSocket;
    this.#session = session;
    this.#activeAt = owner.coarseNow;
    this.#leftAt = owner.coarseNow;
    socket.on('data', (chunk: Buffer) => {
      if (this.#session < 0) return; // Ended; reading on keeps the system from resetting the connection.
      this.#activeAt = owner.coarseNow;
      const waited = this.#sessionWaits;
      this.#fedBytes += chunk.length;
      owner.tick();
      this.#act(sessions.feedSession(this.#session, chunk, socket.writableLength), waited);
    });
    socket.on('drain', () => this.#countUnsent());
    socket.on('end', () => this.shutDown());
    // A broken connection is closed; there is nothing to report.
    socket.on('error', () => this.destroy());
    socket.on('close', () => this.#close());
  }

  /** Continues the session as far as possible. */
  proceed(): void {
    if (this.#session < 0 || this.#resuming) return;
    this.#owner.tick();
    this.#act(sessions.continueSession(this.#session, this.#socket.writableLength));
  }

  /** Answers complete requests, then closes. */
  shutDown(): void {
    if (this.#session < 0) return;
    this.#shutDown = true;
    this.#owner.tick();
    this.#act(sessions.endSession(this.#session, this.#socket.writableLength));
  }

  /** Closes at once. Drops the session before the socket reports its end. */
  destroy(): void {
    this.#releaseSession();
    this.#socket.destroy();
  }

  /** Closes at once; {@link fault} says why. */
  drop(fault: Fault): void {
    this.fault = fault;
    this.destroy();
  }

  /** Destroys the connection if it has taken too long; {@link fault} says why. */
  checkTimeouts(now: number, timeouts: ConnectionTimeouts): void {
    if (this.fault !== undefined || this.#socket.destroyed) return;
    this.#countUnsent();
    const since = (then: number): number => now - then;
    if (this.#endingAt >= 0) {
      if (since(this.#endingAt) < (this.#socket.writableLength === 0 ? LINGER_MS : timeouts.stallMs)) return;
      // A client that has its replies and does not close is not a fault.
      if (this.#socket.writableLength > 0) this.fault = 'stalled';
    } else if (this.#slowed !== undefined) {
      // The session goes on after a time, whatever the client does: it waits, or the client watches.
      return;
    } else if (this.#stoppedAt >= 0) {
      if (since(this.#stoppedAt) < timeouts.stallMs) return;
      this.fault = 'stalled';
    } else if (since(this.#leftAt) >= timeouts.stallMs) {
      this.fault = 'stalled';
    } else if (this.#isInLargeRequest) {
      if (since(this.#activeAt) < timeouts.stallMs) return;
      this.fault = 'stalled';
    } else {
      // A client whose replies wait for the server is not idle.
      if (timeouts.idleMs === 0 || this.#paused || this.#waits || since(this.#activeAt) < timeouts.idleMs) return;
      this.fault = 'idle';
      sessions.countIdleKick(this.#session);
    }
    this.destroy();
  }

  #countUnsent(): void {
    const { writableLength, bytesWritten, destroyed } = this.#socket;
    const left = bytesWritten - writableLength;
    const hasTaken = writableLength === 0 || left !== this.#leftBytes;
    if (hasTaken) {
      this.#leftBytes = left;
      this.#leftAt = this.#owner.coarseNow;
    }
    this.#owner.countUnsent(this, destroyed ? 0 : writableLength, hasTaken);
  }

  // Acts on the result of a native call.
  #act(result: number, fedWhileWaiting = false): void {
    this.#sessionWaits = false;
    const flags = result % FLAGS_RANGE;
    if ((flags & FLAG_SLOWED) !== 0 && this.#slowed === undefined) {
      this.#slowed = setTimeout(this.#waited, sessions.continueIn(this.#session));
    }
    if (result >= FLAGS_RANGE) {
      this.#write((result - flags) / FLAGS_RANGE, (flags & FLAG_OVERFLOW) !== 0);
      this.#countUnsent();
    }
    // The system may refuse a write at once, and the front may have dropped this connection.
    if (this.#socket.destroyed) {
      this.#releaseSession();
      return;
    }
    const waits = (flags & FLAG_WAITS) !== 0;
    if (waits !== this.#waits) {
      this.#waits = waits;
      this.#owner.setWaiting(this, waits);
    }
    this.#isInLargeRequest = (flags & FLAG_IN_LARGE_REQUEST) !== 0;
    switch (flags & NEXT_MASK) {
      case Next.read:
        this.#stoppedAt = -1;
        if (this.#fedBytes >= FED_BYTES_MAX) this.#yield();
        else this.#pause(false);
        return;
      case Next.close:
        if ((flags & FLAG_BINARY) !== 0) this.fault = 'binary';
        if ((flags & FLAG_TLS) !== 0) this.fault = 'tls';
        if (this.fault === undefined) this.#finish();
        else this.#reset();
        return;
      case Next.wait:
        // Takes one chunk more, which the session keeps: only reading shows that a client has disconnected.
        this.#pause(fedWhileWaiting || this.#paused);
        this.#sessionWaits = true;
        this.#stoppedAt = -1;
        return;
      case Next.yield:
        this.#yield();
        return;
    }
    // Next.flush. If the system took all replies at once, they have left.
    if (this.#socket.writableLength === 0) {
      this.#yield();
      return;
    }
    this.#pause(true);
    if (this.#stoppedAt < 0) this.#stoppedAt = this.#owner.coarseNow;
    if (this.#resuming) return;
    this.#resuming = true;
    this.#socket.write(NOTHING, this.#flushed);
  }

  // Gives other connections their turn; reads nothing until then.
  #yield(): void {
    this.#pause(true);
    this.#stoppedAt = -1;
    this.#fedBytes = 0;
    if (this.#resuming) return;
    this.#resuming = true;
    setImmediate(this.#turned);
  }

  // The bytes are valid until the next native call; if the socket still has them after write(), the buffer is replaced.
  // A socket of TLS says that it has them even where it does not, and a copy costs it less than another buffer.
  #write(bytes: number, overflow: boolean): void {
    const socket = this.#socket;
    if (overflow) {
      const buffer = sessions.takeOutput();
      if (buffer === undefined) socket.destroy();
      else socket.write(buffer);
    } else if (this.#isTls || socket.writableLength > 0) {
      socket.write(Buffer.from(sessions.output!.subarray(0, bytes)));
    } else {
      socket.write(sessions.output!.subarray(0, bytes));
      if (socket.writableLength > 0) renewOutput();
    }
  }

  #pause(yes: boolean): void {
    if (this.#paused === yes) return;
    this.#paused = yes;
    if (yes) this.#socket.pause();
    else this.#socket.resume();
  }

  // The session has ended: sends its last replies, then closes the server's side.
  #finish(): void {
    this.#releaseSession();
    this.#endingAt = this.#owner.coarseNow;
    this.#socket.end();
    this.#paused = false;
    this.#socket.resume();
    // After shutDown() the socket closes without waiting for the client to close its side, unless replies are still
    // being sent: closing with bytes unread would discard them.
    if (this.#shutDown && this.#socket.writableLength === 0) this.#socket.destroySoon();
  }

  // The client would not understand any reply. A reset fails its requests, where after an end some wait for theirs.
  #reset(): void {
    this.#releaseSession();
    if (this.#isTls || this.#socket.remoteFamily === undefined)
      this.#socket.destroy(); // node:tls and unix sockets have no resets
    else this.#socket.resetAndDestroy();
  }

  #releaseSession(): void {
    if (this.#session < 0) return;
    sessions.closeSession(this.#session);
    this.#session = -1;
    clearTimeout(this.#slowed);
    if (this.#waits) this.#owner.setWaiting(this, false);
    this.#waits = false;
  }

  #close(): void {
    this.#releaseSession();
    this.#owner.countUnsent(this, 0, true);
    this.#owner.connectionClosed(this);
  }
}
