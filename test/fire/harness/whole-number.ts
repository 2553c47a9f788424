/** The number that an option names. */
export function wholeNumber(name: string, text: string): number {
  if (!/^\d{1,10}$/.test(text)) throw new Error(`Expected --${name} to be a whole number, got "${text}"`);
  return Number(text);
}
