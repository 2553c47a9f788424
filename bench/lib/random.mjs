// Random numbers that are the same in every run.

/** A generator of numbers in [0, 1): mulberry-like mixing of a counter, good enough to choose keys. */
export function seededRandom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return ((z ^ (z >>> 15)) >>> 0) / 2 ** 32;
  };
}

/**
 * A generator of ranks 0..count-1, where rank r has a probability proportional to 1 / (r + 1)^exponent:
 * rejection-inversion (W. Hörmann, G. Derflinger, "Rejection-inversion to generate variates from monotone discrete
 * distributions", ACM TOMACS 6(3), 1996). `exponent` is not 1.
 */
export function zipfRanks(count, exponent, random) {
  const integral = (x) => Math.expm1((1 - exponent) * Math.log(x)) / (1 - exponent);
  const inverse = (u) => Math.exp(Math.log1p(u * (1 - exponent)) / (1 - exponent));
  const low = integral(1.5) - 1;
  const high = integral(count + 0.5);
  const accept = 2 - inverse(integral(2.5) - 2 ** -exponent);
  return () => {
    for (;;) {
      const u = high + random() * (low - high);
      const x = inverse(u);
      const k = Math.min(Math.max(Math.floor(x + 0.5), 1), count);
      if (k - x <= accept || u >= integral(k + 0.5) - k ** -exponent) return k - 1;
    }
  };
}
