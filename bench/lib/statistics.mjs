// The few statistics that the tables need.

/** Median, least and greatest of some numbers. */
export function summary(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  return { median, min: sorted[0], max: sorted[sorted.length - 1], samples: sorted.length };
}

/** The summary of a[i] / b[i]. Neighbours in time are compared, so that what changes slowly cancels. */
export function ratio(a, b) {
  return summary(a.map((value, i) => value / b[i]));
}
