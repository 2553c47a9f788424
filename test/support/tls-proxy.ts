// A plaintext door to a server of TLS, for programs that speak none.

import { type AddressInfo, createServer, type Server } from 'node:net';
import { connect } from 'node:tls';

/** Listens on a free port of 127.0.0.1; what comes there is sent on over TLS, and ends likewise. */
export async function startTlsProxy(port: number): Promise<{ port: number; stop(): void }> {
  const server: Server = createServer({ allowHalfOpen: true, noDelay: true }, (plain) => {
    const where = { host: '127.0.0.1', port, rejectUnauthorized: false, allowHalfOpen: true };
    const secure = connect(where);
    secure.setNoDelay(true);
    plain.pipe(secure).pipe(plain);
    plain.on('error', () => secure.destroy());
    secure.on('error', () => plain.destroy());
    plain.on('close', () => secure.destroy());
    secure.on('close', () => plain.destroySoon());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { port: (server.address() as AddressInfo).port, stop: () => server.close() };
}
