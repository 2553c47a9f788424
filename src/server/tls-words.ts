/** TLS in the words of memcached: what its statistics say of the options, and what `refresh_certs` answers. */
import type { TlsSettings, TlsVerify, TlsVersion } from '../options.ts';
import type { CertificatePart } from './certificates.ts';
import type { NativeTlsSettings } from './native-session.ts';

/** OpenSSL's numbers. */
const VERIFY_MODES: Readonly<Record<TlsVerify, number>> = { none: 0, request: 1, require: 3 };
const KEY_FORMATS = { pem: 1, der: 2 } as const;
const VERSIONS: Readonly<Record<TlsVersion, string>> = {
  TLSv1: 'tlsv1.0',
  'TLSv1.1': 'tlsv1.1',
  'TLSv1.2': 'tlsv1.2',
  'TLSv1.3': 'tlsv1.3',
};

export function statsOfTls(tls: TlsSettings): NativeTlsSettings {
  return {
    chainCert: tls.cert,
    key: tls.key ?? tls.cert,
    caCert: tls.ca ?? 'NULL',
    ciphers: tls.ciphers || 'NULL',
    verifyMode: VERIFY_MODES[tls.verify],
    keyFormat: KEY_FORMATS[tls.keyFormat],
    minVersion: VERSIONS[tls.minVersion],
    sessionCache: Number(tls.sessionCache),
  };
}

/** The reply to a client that wanted certificates to be read again which cannot be used. */
export function refusalOf(part: CertificatePart, { cert, key = cert, ca }: TlsSettings): string {
  switch (part) {
    case 'key':
      return `Error loading the key: ${key}`;
    case 'pair':
      return 'Error validating the certificate';
    case 'ca':
      return `Error loading the CA certificate: ${ca}`;
    default:
      return `Error loading the certificate chain: ${cert}`;
  }
}
