// The lists at the end of a test run: what was skipped, in few lines, then what failed: a log of which only the
// end is kept has the failures.

/** A line of a failure is shown up to here, in characters. */
const LINE = 300;

/** How many tests of each file were skipped for each reason. Names begin with that of a file and " > ". */
function listSkipped(skipped) {
  const reasons = new Map();
  for (const { name, reason } of skipped) {
    const files = reasons.get(reason) ?? new Map();
    const file = name.split(' > ')[0];
    reasons.set(reason, files.set(file, (files.get(file) ?? 0) + 1));
  }
  const counts = (files) => [...files].map(([file, count]) => `    ${count} of ${file}`).join('\n');
  return [...reasons].map(([reason, files]) => `- ${reason}\n${counts(files)}`).join('\n');
}

function describeFailure({ name, reason }) {
  const lines = reason.split('\n').map((line) => `    ${line.slice(0, LINE)}`);
  return [`- ${name}`, ...lines].join('\n');
}

/**
 * The lists as text, a list that is empty left out.
 * @param {{ skipped: { name: string, reason: string }[], failures: { name: string, reason: string }[] }} report
 */
export function listTests({ skipped, failures }) {
  const lists = [];
  if (skipped.length > 0) lists.push(`Skipped, by reason:\n${listSkipped(skipped)}\n`);
  if (failures.length > 0) lists.push(`Failed:\n${failures.map(describeFailure).join('\n')}\n`);
  return lists.join('\n');
}
