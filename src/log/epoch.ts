/**
 * The log's epochs: numbers of 32 bits that never go back. The epoch of a version is the upper half of it; every
 * opening of the log begins one, and a counter of the store that runs over raises it. A clear takes a version and no
 * epoch.
 *
 * Logs of format 1 and 2 counted otherwise: the store's epochs had 20 bits, every clear took one, and the upper 12 bits
 * of the log's epoch counted *generations*, in which the store's epochs began anew. The order of their versions says
 * nothing across the end of a generation, nor beside versions of format 3: what comes later in the log is newer than
 * all that is there by then. Recovery gives that epoch 0, which no record that is written has (Store::Renumber).
 */

/** The highest epoch of a log. */
export const LOG_EPOCH_MAX: number = 2 ** 32 - 1;
/**
 * From one opening to the next. A counter may have run over, once, in records that a crash has taken: the epoch which
 * that began is left out, so that no version is given twice.
 */
const OPENING_STEP = 2;
/** Format 3 and later ones compare versions by their numbers alone. */
const FORMAT_OF_WHOLE_VERSIONS = 3;
const OLD_EPOCH_BITS = 20;
const OLD_COUNTER_BITS = 44n;

/** Versions that have the same era are compared by their numbers. Records of another era outrank what is there. */
export function eraOf(formatVersion: number, logEpoch: number): string {
  return hasWholeVersions(formatVersion) ? 'whole' : `generation ${logEpoch >>> OLD_EPOCH_BITS}`;
}

/** Whether versions of a format are split as versions are now. */
function hasWholeVersions(formatVersion: number): boolean {
  return formatVersion >= FORMAT_OF_WHOLE_VERSIONS;
}

/** The epoch of a version, and what it has counted in that. */
export function versionParts(formatVersion: number, version: bigint): { epoch: number; counter: bigint } {
  const bits = hasWholeVersions(formatVersion) ? 32n : OLD_COUNTER_BITS;
  return { epoch: Number(version >> bits), counter: version & ((1n << bits) - 1n) };
}

/** The highest epoch that the versions of an entry with this epoch may have. */
export function versionEpochMax(formatVersion: number, logEpoch: number): number {
  return hasWholeVersions(formatVersion) ? logEpoch : logEpoch % 2 ** OLD_EPOCH_BITS;
}

/**
 * The version from which on a clear leaves entries alone. In formats 1 and 2 a clear began an epoch, and its record, in
 * the stream of one shard alone, had a later version than entries of other shards that it left alone.
 */
export function clearedVersion(formatVersion: number, version: bigint): bigint {
  return hasWholeVersions(formatVersion) ? version : (version >> OLD_COUNTER_BITS) << OLD_COUNTER_BITS;
}

/** The epoch of a log that has a version, in the era of another epoch of it. */
export function logEpochOf(formatVersion: number, version: bigint, sameEra: number): number {
  const { epoch } = versionParts(formatVersion, version);
  return hasWholeVersions(formatVersion) ? epoch : sameEra - (sameEra % 2 ** OLD_EPOCH_BITS) + epoch;
}

/** How the epoch of a batch, segment or snapshot is shown: for an old one that of the store, and its generation. */
export function epochText(formatVersion: number, logEpoch: number): string {
  const generation = hasWholeVersions(formatVersion) ? 0 : logEpoch >>> OLD_EPOCH_BITS;
  return generation === 0 ? String(logEpoch) : `${logEpoch % 2 ** OLD_EPOCH_BITS} (generation ${generation})`;
}

/** The epoch of the next opening of a log whose highest is this; undefined: there is none. */
export function epochAfter(logEpoch: number): number | undefined {
  const next = logEpoch + OPENING_STEP;
  return next <= LOG_EPOCH_MAX ? next : undefined;
}
