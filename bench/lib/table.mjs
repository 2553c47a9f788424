// Tables of text.

/** Prints rows as columns: the first aligned to the left, the others to the right. */
export function printTable(headings, rows) {
  const lines = [headings, ...rows];
  const widths = headings.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? '').length)));
  for (const line of lines) {
    const cells = widths.map((width, column) =>
      column === 0 ? (line[0] ?? '').padEnd(width) : (line[column] ?? '').padStart(width),
    );
    console.log(`  ${cells.join('   ')}`.trimEnd());
  }
  console.log('');
}

/** 12.3, 123, 1,230: three digits that matter. */
export function number(value) {
  if (value === undefined || Number.isNaN(value)) return '-';
  const size = Math.abs(value);
  const digits = size < 10 ? 2 : size < 100 ? 1 : 0;
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** A summary as `median [least-greatest]`. */
export function withRange(summary, unit = '') {
  if (summary === undefined) return '-';
  return `${number(summary.median)}${unit} [${number(summary.min)}-${number(summary.max)}]`;
}

/**
 * The table of what actors.mjs's compare() returns: a row for each step, a column for each actor, and how many times as
 * fast the subject is as its rival.
 */
export function comparison({ names, rival, results, subject = 'cairn' }) {
  return {
    headings: ['CPU ns per operation: median [range]', ...names, `${subject} : ${rival}`, 'by wall clock'],
    rows: results.map(({ step, actors, speed }) => [
      step,
      ...names.map((name) => withRange(actors[name]?.cpu)),
      speed === undefined ? '' : withRange(speed.cpu, 'x'),
      speed === undefined ? '' : `${number(speed.wall.median)}x`,
    ]),
  };
}
