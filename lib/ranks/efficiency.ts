/** How fast other numbers of ranks would be, from what this number of them has measured. */
import { laneBlock } from './lane-block';

/** What a step was measured to take on all ranks. Milliseconds, on the slowest rank. */
export interface RankMeasurements {
  readonly ranks: number;
  readonly batch: number;
  /** A step of all ranks, sums included. */
  readonly step: number;
  /** A sum of all gradients, and of a single number. */
  readonly sum: number;
  readonly smallSum: number;
  /** The whole batch on one rank, which has no one to wait for. */
  readonly alone: number;
}

/**
 * What a number of ranks makes of a step.
 *
 * @category Training
 */
export interface RankForecast {
  readonly ranks: number;
  /** Milliseconds of a step. */
  readonly step: number;
  /** Its speed over that of one rank, divided by the number of ranks. */
  readonly efficiency: number;
}

const blocksOf = (batch: number, ranks: number) => Math.ceil(Math.ceil(batch / laneBlock) / ranks);

/** A smaller gain goes unmentioned. */
const worthSaying = 0.97;

/**
 * A step of each number of ranks up to those that measured. Computing is taken to be a straight line over the blocks of the largest
 * share, through the two that were measured; a sum to be a ring's: 2 (n - 1) waits, and 2 (n - 1) / n of the bytes through each link.
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

/** The number of ranks that would be faster than all of them, if one would be by enough. */
export function fasterRanks(forecasts: readonly RankForecast[]): RankForecast | undefined {
  const all = forecasts.at(-1) as RankForecast;
  const best = forecasts.reduce((a, b) => (b.step < a.step ? b : a));
  return best.step < worthSaying * all.step ? best : undefined;
}
