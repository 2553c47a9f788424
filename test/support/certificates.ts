// The certificates of the tests, which test/support/certificates/make.sh has made.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The path of one of the files. */
export const certificateFile = (name: string): string =>
  fileURLToPath(new URL(`certificates/${name}`, import.meta.url));

/** What a client shows that calls itself so: `client`, which the CA has signed, or `stranger`. */
export function credentials(name: 'client' | 'stranger'): { cert: Buffer; key: Buffer } {
  return { cert: readFileSync(certificateFile(`${name}.pem`)), key: readFileSync(certificateFile(`${name}.key`)) };
}

/** A server of TLS. */
export const SERVER_TLS: { cert: string; key: string } = {
  cert: certificateFile('server.pem'),
  key: certificateFile('server.key'),
};

/** The same for the command line. */
export const SERVER_TLS_FLAGS: readonly string[] = [
  '-Z',
  '-o',
  `ssl_chain_cert=${SERVER_TLS.cert},ssl_key=${SERVER_TLS.key}`,
];
