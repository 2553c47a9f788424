/**
 * The files of TLS: read, and held against one another, so that what is wrong with them is said by option and file
 * before any client meets it.
 */
import { createPrivateKey, type KeyObject, randomBytes, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { CairnRangeError, type Naming, namingOptions } from '../errors.ts';
import type { TlsSettings } from '../options.ts';

/** Where something is wrong: memcached has an answer for each. `pair`: key and certificate do not belong together. */
export type CertificatePart = 'cert' | 'key' | 'pair' | 'ca' | 'ciphers';

/** Certificates that cannot be used. */
export class UnfitCertificates extends CairnRangeError {
  readonly part: CertificatePart;

  constructor(part: CertificatePart, message: string) {
    super('ERR_INVALID_ARGUMENT', message);
    this.part = part;
  }
}

/** What node:tls needs of the files and the options, and the key of the tickets that clients resume sessions with. */
export interface TlsTerms {
  readonly context: SecureContextOptions;
  readonly ticketKeys: Buffer;
}

/** How many bytes of keys node:tls takes for tickets. */
const TICKET_KEYS_BYTES = 48;

/**
 * Reads the files. Throws {@link UnfitCertificates}. Tickets get another key each time: a session that was begun with
 * the former certificates is not resumed, so that clients which a new `ca` does not know are asked again.
 */
export function readCertificates(settings: TlsSettings): TlsTerms {
  const { cert: certFile, key: keyFile = certFile, ca: caFile } = settings;
  const cert = read('cert', certFile);
  const first = certificateIn('cert', certFile, cert);
  const key = keyIn(keyFile, read('key', keyFile, certFile), settings);
  if (!first.checkPrivateKey(key)) {
    throw unfit('pair', (say) => `${say('tls.key')} ${keyFile} is not the key of ${say('tls.cert')} ${certFile}`);
  }
  const ca = caFile === undefined ? undefined : read('ca', caFile);
  if (ca !== undefined) certificateIn('ca', caFile!, ca);
  const context: SecureContextOptions = {
    cert,
    key: key.export({ type: 'pkcs8', format: 'pem' }),
    minVersion: settings.minVersion,
    ...(ca !== undefined && { ca }),
    ...(settings.ciphers !== '' && { ciphers: settings.ciphers }),
  };
  tryContext(context, settings);
  return { context, ticketKeys: randomBytes(TICKET_KEYS_BYTES) };
}

type OptionOfFile = 'cert' | 'key' | 'ca';

function read(option: OptionOfFile, file: string, sameAs?: string): Buffer {
  try {
    return readFileSync(file);
  } catch (cause) {
    const { code = '' } = cause as NodeJS.ErrnoException;
    const why: Record<string, string> = {
      ENOENT: 'there is no such file',
      EACCES: 'it is not permitted',
      EISDIR: 'it is a directory',
    };
    const name = file === sameAs ? 'cert' : option;
    throw unfit(option, (say) => `Cannot read ${say(`tls.${name}`)} ${file}: ${why[code] ?? code}`);
  }
}

function certificateIn(option: OptionOfFile, file: string, pem: Buffer): X509Certificate {
  try {
    // It takes other forms too, which node:tls does not.
    if (!pem.includes('-----BEGIN ')) throw new Error('no PEM');
    return new X509Certificate(pem);
  } catch {
    throw unfit(option, (say) => `Expected ${say(`tls.${option}`)} to be a file with certificates in PEM, got ${file}`);
  }
}

/** The forms of a private key in DER. */
const DER_TYPES = ['pkcs8', 'pkcs1', 'sec1'] as const;

function keyIn(file: string, bytes: Buffer, { keyFormat }: TlsSettings): KeyObject {
  const attempts =
    keyFormat === 'pem'
      ? [() => createPrivateKey(bytes)]
      : DER_TYPES.map((type) => () => createPrivateKey({ key: bytes, format: 'der', type }));
  let isEncrypted = false;
  for (const attempt of attempts) {
    try {
      return attempt();
    } catch (error) {
      isEncrypted ||= (error as NodeJS.ErrnoException).code === 'ERR_MISSING_PASSPHRASE';
    }
  }
  const form = keyFormat.toUpperCase();
  const instead = isEncrypted ? `${file}, whose key needs a passphrase` : file;
  throw unfit('key', (say) => `Expected ${say('tls.key')} to be a file with a private key in ${form}, got ${instead}`);
}

// What is left to be wrong is the list of ciphers, or a key that the library finds too weak.
function tryContext(context: SecureContextOptions, { ciphers, cert }: TlsSettings): void {
  try {
    createSecureContext(context);
  } catch (error) {
    const { message } = error as Error;
    if (ciphers !== '' && /cipher/i.test(message)) {
      throw unfit('ciphers', (say) => `Expected ${say('tls.ciphers')} to be a list of ciphers, got "${ciphers}"`);
    }
    throw unfit('cert', (say) => `${say('tls.cert')} ${cert} cannot be used: ${message}`);
  }
}

function unfit(part: CertificatePart, sentence: (say: Naming) => string): UnfitCertificates {
  return namingOptions((message) => new UnfitCertificates(part, message), sentence);
}
