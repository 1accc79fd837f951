/** The trials of a sweep: every combination of a grid, or random draws, each with every seed. */

import { DataError } from '../errors';
import { nearest } from '../nearest';
import { resolveConfiguration } from '../training/configuration';
import { keyedInteger } from '../training/keyed-random';
import { optionNames, type TrainingOptions } from '../training/options';
import * as z from '../zod-parts';

/** One training of a sweep. */
export interface Trial {
  /** Its directory's name: a number, and what sets it apart. */
  readonly name: string;
  /** Only the options that differ between trials. */
  readonly varied: Readonly<Record<string, unknown>>;
  /** All options that the sweep sets; the rest are the preset's. */
  readonly options: Readonly<Record<string, unknown>>;
  /** Epochs of the complete training. */
  readonly epochs: number;
}

export interface SweepPlan {
  readonly corpus: readonly string[];
  readonly trials: readonly Trial[];
}

const value = z.union([z.string(), z.number(), z.boolean()]);
const range = z.tuple([z.number(), z.number()]);
const spread = z.union([
  z.array(value).min(1),
  z.strictObject({ uniform: range }),
  z.strictObject({ log: range }),
  z.strictObject({ integer: range }),
]);

const sweepFile = z.strictObject({
  /** As for `train`. */
  corpus: z.union([z.string().transform((path) => [path]), z.array(z.string())]).optional(),
  /** The same for every trial. */
  options: z.record(z.string(), z.unknown()).optional(),
  /** Every combination of these. */
  grid: z.record(z.string(), z.array(value).min(1)).optional(),
  /** This many draws, each option from a list or a range. */
  random: z
    .strictObject({
      trials: z.number().int().min(1).max(10_000),
      seed: z.number().int().min(0).default(1),
      over: z.record(z.string(), spread),
    })
    .optional(),
  /** Each combination of options is trained with each of these. */
  seeds: z.array(z.number().int().min(0)).min(1).optional(),
});

type SweepFile = z.output<typeof sweepFile>;
type Spread = z.output<typeof spread>;

const mostTrials = 10_000;
/** Options that belong to the sweep, which gives each trial its own. */
const ofTheSweep = ['out', 'lock'];

/**
 * Reads a sweep's file; every trial's options are checked before the first is run.
 *
 * @param name The file's name, for errors.
 * @throws DataError naming the key at fault.
 */
export function planSweep(name: string, content: unknown): SweepPlan {
  const result = sweepFile.safeParse(content);
  if (!result.success) {
    const [issue] = result.error.issues;
    const where = issue?.path.join('.') ?? '';
    throw new DataError(`${name}: ${where === '' ? '' : `${where}: `}${issue?.message}`);
  }
  const file = result.data;
  const { options = {}, seeds } = file;
  for (const [part, keys] of [
    ['options', Object.keys(options)],
    ['grid', Object.keys(file.grid ?? {})],
    ['random.over', Object.keys(file.random?.over ?? {})],
  ] as const) {
    for (const key of keys) checkName(name, part, key, Object.keys(options), part !== 'options');
  }
  if (file.grid && file.random) throw new DataError(`${name}: give grid or random, not both`);
  if (!file.grid && !file.random && !seeds)
    throw new DataError(`${name}: there is nothing to try; give grid, random or seeds`);
  if (seeds && ['seed' in (file.grid ?? {}), 'seed' in (file.random?.over ?? {}), 'seed' in options].includes(true)) {
    throw new DataError(`${name}: seeds and the option seed say the same; give one of them`);
  }
  const combinations = file.random ? draws(name, file.random) : products(name, file.grid ?? {});
  const varied = combinations.flatMap((each) => (seeds ? seeds.map((seed) => ({ ...each, seed })) : [each]));
  if (varied.length > mostTrials) throw new DataError(`${name}: ${varied.length} trials are more than ${mostTrials}`);
  const digits = String(varied.length).length;
  const trials = varied.map((each, i): Trial => {
    const trialName = nameOf(i + 1, digits, each);
    const all = { ...options, ...each };
    try {
      const { epochs } = resolveConfiguration({ file: { name: `${name}, trial ${trialName}`, values: all } }).options;
      return { name: trialName, varied: each, options: all, epochs };
    } catch (error) {
      throw new DataError((error as Error).message, { cause: error });
    }
  });
  return { corpus: file.corpus ?? [], trials };
}

function checkName(file: string, part: string, key: string, fixed: readonly string[], varies: boolean): void {
  if (ofTheSweep.includes(key))
    throw new DataError(`${file}: ${part}.${key} is the sweep's own: each trial has its directory`);
  if (!(optionNames as readonly string[]).includes(key)) {
    const near = nearest(key, optionNames);
    throw new DataError(`${file}: ${part}.${key} is no option${near === undefined ? '' : `; did you mean ${near}?`}`);
  }
  if (varies && fixed.includes(key)) throw new DataError(`${file}: ${key} is in options and in ${part}; give it once`);
}

function products(file: string, grid: NonNullable<SweepFile['grid']>): Record<string, unknown>[] {
  let all: Record<string, unknown>[] = [{}];
  for (const [key, values] of Object.entries(grid)) {
    if (new Set(values).size < values.length) throw new DataError(`${file}: grid.${key} has a value twice`);
    if (all.length * values.length > mostTrials)
      throw new DataError(`${file}: the grid has more than ${mostTrials} combinations`);
    all = all.flatMap((each) => values.map((one) => ({ ...each, [key]: one })));
  }
  return all;
}

function draws(file: string, random: NonNullable<SweepFile['random']>): Record<string, unknown>[] {
  const { trials, seed, over } = random;
  if (Object.keys(over).length === 0) throw new DataError(`${file}: random.over names no option`);
  return Array.from({ length: trials }, (_, trial) =>
    Object.fromEntries(Object.entries(over).map(([key, from]) => [key, draw(file, key, from, [seed, trial, key])])),
  );
}

function draw(file: string, key: string, from: Spread, coin: (string | number)[]): unknown {
  if (Array.isArray(from)) return from[keyedInteger(from.length, 'sweep', ...coin)];
  const [[kind, [low, high]]] = Object.entries(from) as [[string, [number, number]]];
  if (low >= high) throw new DataError(`${file}: random.over.${key}: ${low} must be below ${high}`);
  const share = keyedInteger(2 ** 32, 'sweep', ...coin) / 2 ** 32;
  switch (kind) {
    case 'integer':
      if (!Number.isInteger(low) || !Number.isInteger(high))
        throw new DataError(`${file}: random.over.${key}: integer takes whole numbers`);
      return low + Math.floor(share * (high - low + 1));
    case 'log':
      if (low <= 0) throw new DataError(`${file}: random.over.${key}: log takes numbers above 0`);
      return Number((low * (high / low) ** share).toPrecision(4));
    default:
      return Number((low + share * (high - low)).toPrecision(4));
  }
}

/** `03-hidden=128-seed=1`: short enough for a file system, and unique by its number. */
function nameOf(number: number, digits: number, varied: Record<string, unknown>): string {
  const parts = Object.entries(varied).map(([key, each]) => `${key}=${String(each).replace(/[^\w.+-]+/g, '_')}`);
  return [String(number).padStart(digits, '0'), ...parts].join('-').slice(0, 120);
}

export type SweepOptions = Partial<TrainingOptions>;
