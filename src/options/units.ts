/** Durations and sizes, as numbers or text. */
import { outOfRange, wrongType } from '../errors.ts';
import { TTL_MS_MAX } from '../limits.ts';

const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** A time span in milliseconds. */
export function parseDuration(name: string, value: unknown, otherwise: number): number {
  if (value === undefined) return otherwise;
  if (typeof value === 'number') {
    if (Number.isInteger(value) && value >= 0 && value <= TTL_MS_MAX) return value;
    if (value === Number.POSITIVE_INFINITY) return 0;
  }
  if (typeof value === 'string') {
    const milliseconds = durationOf(value);
    if (milliseconds !== undefined && milliseconds <= TTL_MS_MAX) return milliseconds;
  }
  const problem = typeof value === 'number' || typeof value === 'string' ? outOfRange : wrongType;
  throw problem(
    name,
    'a non-negative integer of milliseconds, or a number with ms, s, m, h or d, such as "60s"',
    value,
  );
}

/** Whole milliseconds; undefined: it is no such text. */
export function durationOf(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)$/i.exec(text.trim());
  if (match === null) return undefined;
  const milliseconds = Number(match[1]) * DURATION_UNITS[match[2]!.toLowerCase()]!;
  // "0.1s" is 100 whatever binary fractions make of it; "0.5ms" is nothing.
  const whole = Math.round(milliseconds);
  return Math.abs(milliseconds - whole) < 1e-6 ? whole : undefined;
}

const SIZE_UNITS: Readonly<Record<string, number>> = { '': 1, b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** A size in bytes. */
export function parseSize(name: string, value: unknown, otherwise: number, usableMemory: () => number): number {
  if (value === undefined) return otherwise;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value > 0) return value;
  if (typeof value === 'string') {
    const percent = /^(\d+(?:\.\d+)?)\s*%$/.exec(value.trim());
    if (percent !== null) {
      const share = Number(percent[1]) / 100;
      if (share > 0 && share <= 1) return Math.floor(usableMemory() * share);
    }
    const match = /^(\d+(?:\.\d+)?)\s*(?:([kmgt])(?:i?b)?|b)?$/i.exec(value.trim());
    if (match !== null) {
      const bytes = Math.floor(Number(match[1]) * SIZE_UNITS[(match[2] ?? '').toLowerCase()]!);
      if (bytes > 0 && Number.isSafeInteger(bytes)) return bytes;
    }
  }
  const problem = typeof value === 'number' || typeof value === 'string' ? outOfRange : wrongType;
  throw problem(name, 'a positive integer of bytes, or text such as "512mb" or "25%"', value);
}
