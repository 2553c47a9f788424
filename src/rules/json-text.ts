/** JSON text of any program as a value, unless that would not be the same value. */
import { Misfit } from './misfit.ts';

/** Texts, which may have digits, and numbers. */
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:e[-+]?\d+)?/gi;
/** As many digits as tell any two numbers of JavaScript apart: others write them all. */
const DIGITS_MAX = 17;

/** Throws Misfit if the text is no JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Misfit('Expected JSON: the value is none');
  }
}

/** The same, also if the text has a number that a number of JavaScript would round. */
export function parseExactly(text: string): unknown {
  const value = parseJson(text);
  for (const [token] of text.matchAll(TOKENS)) {
    if (!token.startsWith('"') && isRounded(token)) {
      throw new Misfit(`The number ${token} would be rounded to ${Number(token)}`);
    }
  }
  return value;
}

function isRounded(token: string): boolean {
  const number = Number(token);
  if (!Number.isFinite(number)) return true;
  const exact = digitsOf(token);
  // A fraction of no more digits is the nearest one to a number that another program has.
  if (/[.e]/i.test(token) && exact.digits.length <= DIGITS_MAX) return false;
  const kept = digitsOf(String(number));
  return exact.digits !== kept.digits || exact.power !== kept.power;
}

/** The digits of a number without zeros at either end, and the power of ten of the last of them. */
function digitsOf(text: string): { readonly digits: string; readonly power: number } {
  const [mantissa = '', exponent = '0'] = text.replace(/^-/, '').toLowerCase().split('e');
  const [whole = '', fraction = ''] = mantissa.split('.');
  const all = (whole + fraction).replace(/^0+/, '');
  const digits = all.replace(/0+$/, '');
  return { digits, power: digits === '' ? 0 : Number(exponent) - fraction.length + (all.length - digits.length) };
}
