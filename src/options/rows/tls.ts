/** The options of TLS. */
import { wrongType } from '../../errors.ts';
import * as kinds from '../kinds.ts';
import type { TlsOptions, TlsVerify, TlsVersion } from '../types.ts';
import { type Checked, checkAll, type Rows } from './row.ts';

/** `tls` of `serve`. */
export const TLS_OPTIONS = {
  cert: {
    check: kinds.file,
    default: '',
    doc: 'the file of the certificate, in PEM, with those that lead to its root behind it; it has to be given',
  },
  key: { check: kinds.file, default: 'that of `cert`', doc: 'the file of its private key' },
  keyFormat: {
    check: kinds.choice<'pem' | 'der'>(['pem', 'der'], 'pem'),
    default: "'pem'",
    doc: "the form of the private key: `'pem'` or `'der'`",
  },
  ca: {
    check: kinds.file,
    default: 'none',
    doc: 'the file of the certificates, in PEM, that may sign those of clients',
  },
  verify: {
    check: kinds.choice<TlsVerify>(['none', 'request', 'require'], 'none'),
    default: "'none'",
    doc: "`'require'`: a client must show a certificate that `ca` has signed; `'request'`: it need not have one, but a wrong one is refused; `'none'`: it is not asked",
  },
  ciphers: { check: kinds.text('a list of ciphers'), default: 'those of Node', doc: 'as OpenSSL takes them' },
  minVersion: {
    check: kinds.choice<TlsVersion>(['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'], 'TLSv1.2'),
    default: "'TLSv1.2'",
    doc: "the oldest version that is spoken, up to `'TLSv1.3'`; those before 1.2 need `ciphers` with `@SECLEVEL=0`",
  },
  sessionCache: {
    check: kinds.yesOrNo(false),
    default: 'false',
    doc: 'gives clients tickets, with which they resume a session at less cost',
  },
  handshakeTimeout: {
    check: kinds.timer(10_000, 1),
    default: "'10s'",
    doc: 'closes a connection whose handshake takes longer',
  },
} as const satisfies Rows<TlsOptions>;

/** After checking. */
export interface TlsSettings extends Omit<Checked<typeof TLS_OPTIONS>, 'cert'> {
  readonly cert: string;
}

export const tlsOptions: kinds.Check<TlsSettings | undefined> = (given, name, usableMemory) => {
  if (given === undefined) return undefined;
  const { cert, ...options } = checkAll(TLS_OPTIONS, name, given as TlsOptions, usableMemory);
  if (cert === undefined) throw wrongType(`${name}.cert`, 'the path of a file', cert);
  return { ...options, cert };
};
