/** The sampling rules as their papers state them, by sorting, in float64: what native/core/draw_rules.h must draw. */
import { eachDrawRule } from '../../lib/device/draw-rules';
import type { NativeSamplingOptions } from '../../lib/device/native';

/** Every rule off. */
export const plainSampling = { greedy: false, ...eachDrawRule((_, { plain }) => plain) };

/** A value of each rule at which it has an effect; for the window, only with a penalty. */
export const activeRules = eachDrawRule((_, { low, high, whole }) => (whole ? 3 : (low + Math.min(high, 1)) / 2));

/** One rule at a time at its edges, then all together. */
export const samplingRules: Record<string, NativeSamplingOptions> = {
  plain: {},
  cold: { temperature: 0.21 },
  hot: { temperature: 3.7 },
  'all but frozen': { temperature: 1e-9 },
  greedy: { greedy: true },
  'the best': { topK: 1 },
  'the best 2': { topK: 2 },
  'the best 40': { topK: 40, temperature: 1.3 },
  'the best 1,000': { topK: 1000 },
  'more than there are': { topK: 100_000 },
  nucleus: { topP: 0.9123 },
  'a small nucleus': { topP: 0.2345, temperature: 0.8 },
  'the smallest nucleus': { topP: 1e-9 },
  'nearly everything': { topP: 0.99987 },
  'a floor': { minP: 0.0512 },
  'a floor that only the best reach': { minP: 1 },
  typical: { typicalP: 0.7123 },
  'the most typical': { typicalP: 1e-9, temperature: 1.7 },
  'typical of a nucleus': { topK: 100, topP: 0.9321, minP: 0.0071, typicalP: 0.6543 },
  together: { temperature: 0.9, topK: 50, topP: 0.9512, minP: 0.0123 },
};

interface Candidate {
  id: number;
  score: number;
  weight: number;
}

/** The coin of a draw, uniform in [0, 1): Philox4x32-10 of (position, stream, site 2), keyed by the seed. */
export function drawCoin(seed: number, stream: number, position: number): number {
  let [a, b, c, d] = [position >>> 0, Math.floor(position / 2 ** 32) >>> 0, stream, 2];
  let [k0, k1] = [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0];
  for (let round = 0; round < 10; round++) {
    const [low0, low1] = [Math.imul(0xd2511f53, a) >>> 0, Math.imul(0xcd9e8d57, c) >>> 0];
    const [high0, high1] = [highWord(0xd2511f53, a), highWord(0xcd9e8d57, c)];
    [a, b, c, d] = [(high1 ^ b ^ k0) >>> 0, low1, (high0 ^ d ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  // 32 bits of a and 21 of b.
  return (a * 2 ** 21 + (b >>> 11)) / 2 ** 53;
}

/** The upper 32 bits of the product of two words, computed by halves: each sum stays below 2^53. */
function highWord(x: number, y: number): number {
  const [x1, x0, y1, y0] = [x >>> 16, x & 0xffff, y >>> 16, y & 0xffff];
  const middle = x1 * y0 + x0 * y1 + Math.floor((x0 * y0) / 2 ** 16);
  return x1 * y1 + Math.floor(middle / 2 ** 16);
}

const total = (candidates: Candidate[]) => candidates.reduce((sum, { weight }) => sum + weight, 0);

/** The shortest prefix of `sorted` with the given share of its total weight. */
function upTo(sorted: Candidate[], share: number): Candidate[] {
  const wanted = share * total(sorted);
  let sum = 0;
  const count = sorted.findIndex(({ weight }) => {
    sum += weight;
    return sum >= wanted;
  });
  return count < 0 ? sorted : sorted.slice(0, count + 1);
}

/** Maps each coin to the id that it draws from logits [V]; `recent` are the ids that the penalty sees. */
export function oracleRule(
  logits: ArrayLike<number>,
  options: NativeSamplingOptions,
  recent: readonly number[] = [],
): (coin: number) => number {
  const { temperature, topK, topP, minP, typicalP, repetitionPenalty } = { ...plainSampling, ...options };
  const scores = Array.from(logits, (logit, id) => {
    if (!recent.includes(id) || repetitionPenalty === 1) return logit;
    return Math.fround(logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty);
  });
  const largest = scores.reduce((most, score) => Math.max(most, score), Number.NEGATIVE_INFINITY);
  if (options.greedy) {
    const best = scores.indexOf(largest);
    return () => best;
  }
  let kept = scores
    .map((score, id) => ({ id, score, weight: Math.exp((score - largest) / temperature) }))
    .sort((a, b) => b.score - a.score || a.id - b.id);
  if (topK > 0) kept = kept.slice(0, topK);
  if (topP < 1) kept = upTo(kept, topP);
  if (minP > 0) kept = kept.filter(({ weight }) => weight >= minP);
  if (typicalP < 1) {
    const whole = total(kept);
    const surprise = ({ weight }: Candidate) => -Math.log(weight / whole);
    const likely = kept.filter(({ weight }) => weight > 2 ** -47);
    const entropy = likely.reduce((sum, one) => sum + (one.weight / whole) * surprise(one), 0);
    const distance = (one: Candidate) => Math.fround(Math.abs(surprise(one) - entropy));
    kept = upTo(
      likely.sort((a, b) => distance(a) - distance(b) || a.id - b.id),
      typicalP,
    );
  }
  // Then the coin's place among those kept, in id order.
  kept.sort((a, b) => a.id - b.id);
  const whole = total(kept);
  return (coin) => {
    let left = coin * whole;
    for (const { id, weight } of kept) {
      left -= weight;
      if (left < 0) return id;
    }
    return (kept.at(-1) as Candidate).id;
  };
}
