/** What flags of the command line make of their text; undefined: the text is not what they expect. */

export const digits = (text: string): number | undefined => (/^\d+$/.test(text) ? Number(text) : undefined);

/** A time says its unit. */
export const time = (text: string): string | undefined => (/^\d+$/.test(text) ? undefined : text);

export const timeOrZero = (text: string): string | number | undefined => (text === '0' ? 0 : time(text));
