/**
 * The plan behind `--preset best`: which model, trained for how long, gets furthest in the available time. A law fitted to a search
 * (best-table.ts, docs/best.md) predicts what a model learns from a number of characters; how many there is time for is measured.
 */
import { plural } from '../numbers';
import { bestTable } from './best-table';
import { formatDuration } from './duration';
import { stepsOf, type TrainingOptions } from './options';

/** What the search varied. */
export const recipeOptions = [
  'layers',
  'hidden',
  'dropout',
  'batchSize',
  'seqLength',
  'learningRate',
  'weightDecay',
] as const;

export type BestRecipe = Pick<TrainingOptions, (typeof recipeOptions)[number]>;

/** What the plan decides, unless given. */
export const plannedOptions = [
  ...recipeOptions,
  'epochs',
  'validation',
  'validationEvery',
  'patience',
  'scheduleTime',
] as const;

/** A recipe and its learning curve, fitted to its rows of the search. */
export interface SearchedRecipe {
  readonly recipe: BestRecipe;
  readonly curve: LearningCurve;
}

/** How a recipe learns, in nats per character on top of the text's own part of the loss. Only for comparison. */
export interface LearningCurve {
  /** Loss that no amount of training removes. */
  readonly capacity: number;
  /** Loss still to be removed after 100,000 characters. */
  readonly data: number;
  /** Loss that each pass over a training text of 100,000 characters adds by overfitting. */
  readonly overfit: number;
}

/** A recipe and how fast this machine trains it. */
export interface BestCandidate extends SearchedRecipe {
  readonly charactersPerSecond: number;
}

export interface BestRequest {
  /** Length of the whole text, including its validation tail. */
  readonly characters: number;
  readonly symbols: number;
  /** Time for training, including scoring the validation text. */
  readonly seconds: number;
  /** The most passes over the training text, if given. */
  readonly epochs?: number;
  readonly memoryBytes: number;
  /** At least one. */
  readonly candidates: readonly BestCandidate[];
}

export interface BestPlan {
  readonly candidate: BestCandidate;
  readonly options: BestRecipe &
    Pick<TrainingOptions, 'epochs' | 'validation' | 'validationEvery' | 'patience' | 'scheduleTime'>;
  /** Passes over the training text: as many as there is time for, or as are worthwhile if that is fewer. */
  readonly passes: number;
  /** The loss that the law predicts on top of the text's own part, in nats per character. Only for comparison. */
  readonly expected: number;
  /** The other candidates, each with how much worse it is expected to be, in ascending order. */
  readonly others: readonly { readonly candidate: BestCandidate; readonly worse: number }[];
}

const { law } = bestTable;
/** Passes after which another teaches hardly anything: a twentieth of the gain from repetition is left. */
export const mostPasses = Math.ceil(1 + 3 * law.repetitions);

/** The most of the text to hold out and of the time to spend on scoring it, and how much faster scoring is than training. */
const [validationShare, validationTime, validationSpeed] = [0.1, 0.1, 3];
/** With fewer scores in a run, the best model would be chosen from too few. */
const fewScores = 8;
/** The number of characters that the curves refer to. */
const stated = 1e5;
/** How much faster than measured a machine may turn out to be and the run still end with its time, not with its epochs. */
const slack = 1.25;

/**
 * The table's recipes with the given values in place of theirs. A size that is not in the table is trained like the nearest one in it,
 * and assumed to learn like it.
 */
export function bestRecipes(given: Partial<BestRecipe> = {}): SearchedRecipe[] {
  const sizeOf = ({ layers, hidden }: Pick<BestRecipe, 'layers' | 'hidden'>) => `${layers} ${hidden}`;
  const found = new Map<string, SearchedRecipe>();
  const distances = new Map<string, number>();
  const nearestFirst = bestTable.recipes
    .map(({ recipe, curve }) => {
      const chosen = { ...recipe, ...given };
      const distance =
        Math.abs(Math.log(chosen.hidden / recipe.hidden)) + Math.abs(Math.log(chosen.layers / recipe.layers));
      return { chosen: { recipe: chosen, curve }, distance };
    })
    .sort((a, b) => a.distance - b.distance);
  for (const { chosen, distance } of nearestFirst) {
    const size = sizeOf(chosen.recipe);
    if (distance > (distances.get(size) ?? distance)) continue;
    distances.set(size, distance);
    const key = Object.values(chosen.recipe).join();
    if (!found.has(key)) found.set(key, chosen);
  }
  return [...found.values()];
}

/** Chooses a recipe for a text, a time and a machine. */
export function planBest(request: BestRequest): BestPlan {
  const { characters, symbols, seconds, memoryBytes, candidates } = request;
  const fitting = candidates.filter(({ recipe }) => estimateBytes(recipe, symbols) <= memoryBytes);
  const smallest = candidates.reduce((a, b) =>
    estimateBytes(b.recipe, symbols) < estimateBytes(a.recipe, symbols) ? b : a,
  );
  const judged = (fitting.length > 0 ? fitting : [smallest])
    .map((candidate) => ({ candidate, ...judge(candidate, request) }))
    .sort((a, b) => a.expected - b.expected);
  const [best, ...others] = judged as [(typeof judged)[number], ...typeof judged];
  return {
    candidate: best.candidate,
    options: optionsOf(best, characters, seconds),
    passes: best.passes,
    expected: best.expected,
    others: others.map(({ candidate, expected }) => ({ candidate, worse: expected - best.expected })),
  };
}

function judge({ curve, charactersPerSecond }: BestCandidate, request: BestRequest) {
  const { characters, seconds, epochs = mostPasses } = request;
  const text = Math.max(1, (1 - validationShare) * characters);
  // One character at least: with less, nothing is learned, and the law counts only what is lost.
  const affordable = Math.max(1, (1 - validationTime) * seconds * charactersPerSecond) / text;
  // As many passes as gain more than they lose by overfitting: the loss is convex in them, so thirds without its minimum can be left out.
  const loss = (passes: number) => expectedLoss(curve, text, passes);
  let [least, most] = [1, Math.max(1, Math.min(mostPasses, epochs))];
  while (most - least > 1e-6) {
    const third = (most - least) / 3;
    if (loss(least + third) <= loss(most - third)) most -= third;
    else least += third;
  }
  const worth = loss(most) < loss(least) ? most : least;
  const passes = Math.min(worth, affordable);
  return { passes, enough: worth <= affordable, expected: loss(passes) };
}

/**
 * The part of the loss that depends on the recipe: what it can never learn, what it has seen too little of, and what it has seen too
 * often. A repeated character is worth less each time (Muennighoff et al. 2023).
 *
 * @param text Characters in the training text.
 * @param passes Passes over that text.
 */
export function expectedLoss({ capacity, data, overfit }: LearningCurve, text: number, passes: number): number {
  const { repetitions, dataPower } = law;
  const repeated = Math.min(1, passes) + repetitions * (1 - Math.exp(-Math.max(0, passes - 1) / repetitions));
  return capacity + data * (Math.max(1, text * repeated) / stated) ** -dataPower + overfit * passes * (stated / text);
}

function optionsOf(
  {
    candidate: { recipe, charactersPerSecond },
    passes,
    enough,
  }: { candidate: BestCandidate } & ReturnType<typeof judge>,
  characters: number,
  seconds: number,
): BestPlan['options'] {
  const { batchSize, seqLength } = recipe;
  const epochs = Math.min(mostPasses, Math.max(1, Math.ceil((enough ? 1 : slack) * passes)));
  // The validation tail is at most what one score's share of the time can cover.
  const trained = Math.max(1, charactersPerSecond * seconds);
  const affordable = Math.max(4 * seqLength, (validationTime / fewScores) * validationSpeed * trained);
  const validation = Math.min(validationShare, Number((affordable / characters).toPrecision(2)));
  const scores = Math.max(
    fewScores,
    Math.floor((validationTime * validationSpeed * trained) / (validation * characters)),
  );
  const stepsPerEpoch = Math.max(1, Math.floor(((1 - validation) * characters) / (batchSize * seqLength)));
  const every = passes / scores;
  const validationEvery: TrainingOptions['validationEvery'] =
    passes < fewScores
      ? `${Math.max(1, Math.floor(Math.max(passes / fewScores, every) * stepsPerEpoch))}steps`
      : Math.max(1, Math.ceil(every));
  const scored = typeof validationEvery === 'number' ? passes / validationEvery : fewScores;
  return {
    ...recipe,
    epochs,
    validation,
    validationEvery,
    patience: Math.max(5, Math.ceil(scored / 3)),
    // Leaves time for the last score, which comes after training.
    scheduleTime: Math.max(seconds / 2, seconds - (validation * characters) / (validationSpeed * charactersPerSecond)),
  };
}

/** Trainable parameters of a model with one-hot input. */
export function parametersOf({ layers, hidden }: Pick<BestRecipe, 'layers' | 'hidden'>, symbols: number): number {
  return 4 * hidden * (symbols + hidden + 1) + (layers - 1) * 4 * hidden * (2 * hidden + 1) + symbols * (hidden + 1);
}

/** Memory for training: weights in two forms, gradients, two moments; gates, cells and outputs of all ticks, and their gradients. */
export function estimateBytes(recipe: BestRecipe, symbols: number): number {
  const { layers, hidden, batchSize, seqLength } = recipe;
  const ticks = seqLength * Math.max(16, batchSize);
  return 4 * (6 * parametersOf(recipe, symbols) + ticks * (16 * layers * hidden + 2 * symbols));
}

/** The plan in two lines: what, and why. */
export function describeBest({ candidate, options, passes, others }: BestPlan, time: number): [string, string] {
  // Two digits below 10, so that a small part of the text is not "0 times".
  const n = (value: number) =>
    value.toLocaleString('en', value < 10 ? { maximumSignificantDigits: 2 } : { maximumFractionDigits: 0 });
  const { layers, hidden, dropout, batchSize, seqLength, learningRate, weightDecay } = options;
  const { validation, validationEvery } = options;
  const size = (of: BestRecipe) =>
    `${of.layers} x ${of.hidden} in batches of ${of.batchSize} x ${of.seqLength} at rate ${of.learningRate}`;
  const [next] = others;
  const steps = stepsOf(validationEvery);
  const every = plural(steps ?? (validationEvery as number), steps === undefined ? 'epoch' : 'step').replace(/^1 /, '');
  return [
    `planned for ${formatDuration(time)}: ${layers} x ${hidden}, dropout ${dropout}, batches of ${batchSize} x ${seqLength}, ` +
      `rate ${learningRate}, ${weightDecay > 0 ? `weight decay ${weightDecay}, ` : ''}at most ${plural(options.epochs, 'epoch')}; ` +
      `${n(100 * validation)} % for validation, scored every ${every}`,
    `because it trains ${n(candidate.charactersPerSecond)} characters/s here, the text ${n(passes)} times` +
      (next ? `; the next best, ${size(next.candidate.recipe)}, is expected ${next.worse.toFixed(3)} nats worse` : ''),
  ];
}
