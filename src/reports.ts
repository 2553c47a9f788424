/**
 * Reports of a cache (entries, recovery, snapshots, notices of the log) can be logged with `JSON.stringify`, which
 * writes their bigints, such as a version or a position in the log, as decimal text.
 */

/** Gives a report, and those within it that hold a bigint, a hidden `toJSON`. Returns it. */
export function report<T extends object>(object: T): T {
  let holdsBigInt = false;
  for (const member of Object.values(object)) {
    if (typeof member === 'bigint') holdsBigInt = true;
    else if (typeof member === 'object' && member !== null && !ArrayBuffer.isView(member)) report(member);
  }
  return holdsBigInt && Object.isExtensible(object) ? withJson(object) : object;
}

/** The same for an object that has a bigint itself, and no report within it. */
export function withJson<T extends object>(object: T): T {
  return Object.defineProperty(object, 'toJSON', TO_JSON);
}

// Hidden, so that the object is equal to one without it, and can be sent to another thread.
const TO_JSON: PropertyDescriptor = {
  value(this: object): object {
    return Object.fromEntries(
      Object.entries(this).map(([key, member]) => [key, typeof member === 'bigint' ? String(member) : member]),
    );
  },
  configurable: true,
  writable: true,
};
