/** Predicts the speed of other numbers of ranks from measurements with this number. */
import { laneBlock } from './lane-block';

/** Measured times of a step on all ranks, in milliseconds on the slowest rank. */
export interface RankMeasurements {
  readonly ranks: number;
  readonly batch: number;
  /** A step of all ranks, sums included. */
  readonly step: number;
  /** A sum of all gradients, and of a single number. */
  readonly sum: number;
  readonly smallSum: number;
  /** The whole batch on one rank, which waits for no other. */
  readonly alone: number;
}

/**
 * The forecast for a number of ranks.
 *
 * @category Training
 */
export interface RankForecast {
  readonly ranks: number;
  /** Milliseconds per step. */
  readonly step: number;
  /** Speed relative to one rank, divided by the number of ranks. */
  readonly efficiency: number;
}

const blocksOf = (batch: number, ranks: number) => Math.ceil(Math.ceil(batch / laneBlock) / ranks);

/** A smaller gain is not mentioned. */
const worthSaying = 0.97;

/**
 * Forecasts a step for each number of ranks up to the number that measured. Computing time is taken to be linear in the blocks of the
 * largest share, through the two measured points; a sum is taken to be a ring's: 2 (n - 1) waits, and 2 (n - 1) / n of the bytes through
 * each link.
 */
export function forecastRanks(m: RankMeasurements): RankForecast[] {
  const [most, least] = [blocksOf(m.batch, 1), blocksOf(m.batch, m.ranks)];
  const shared = Math.max(0, m.step - m.sum);
  const perBlock = most === least ? 0 : Math.max(0, (m.alone - shared) / (most - least));
  const [waits, bytes] = [Math.min(m.smallSum, m.sum), Math.max(0, m.sum - m.smallSum)];
  const share = (n: number) => (n - 1) / n;
  return Array.from({ length: m.ranks }, (_, i) => {
    const n = i + 1;
    const computing = n === 1 ? m.alone : shared + perBlock * (blocksOf(m.batch, n) - least);
    const summing = m.ranks === 1 ? 0 : (waits * i) / (m.ranks - 1) + (bytes * share(n)) / share(m.ranks);
    const step = n === m.ranks ? m.step : computing + summing;
    return { ranks: n, step, efficiency: m.alone / (n * step) };
  });
}

/** The best number of ranks, if it would be enough faster than all of them. */
export function fasterRanks(forecasts: readonly RankForecast[]): RankForecast | undefined {
  const all = forecasts.at(-1) as RankForecast;
  const best = forecasts.reduce((a, b) => (b.step < a.step ? b : a));
  return best.step < worthSaying * all.step ? best : undefined;
}
