/**
 * The plan behind `--preset best`: which model, trained for how long, comes furthest in the time there is. A law that was fitted to a
 * search (best-table.ts, docs/best.md) says what a model learns from so many characters; how many there are time for is measured.
 */
import { bestTable } from './best-table';
import { formatDuration } from './duration';
import type { TrainingOptions } from './options';

/** What the search varied. */
export type BestRecipe = Pick<
  TrainingOptions,
  'layers' | 'hidden' | 'dropout' | 'batchSize' | 'seqLength' | 'learningRate'
>;

/** What the plan decides, where nobody else has. */
export const plannedOptions = [
  'layers',
  'hidden',
  'dropout',
  'batchSize',
  'seqLength',
  'learningRate',
  'epochs',
  'validation',
  'validationEvery',
  'patience',
  'scheduleTime',
  'weightDecay',
] as const;

/** A recipe, and how fast this machine trains it. */
export interface BestCandidate {
  readonly recipe: BestRecipe;
  readonly charactersPerSecond: number;
}

export interface BestRequest {
  /** Length of the whole text, its validation tail included. */
  readonly characters: number;
  readonly symbols: number;
  /** What training may take, scores of the validation text among it. */
  readonly seconds: number;
  /** The most passes over the training text, where somebody has said so. */
  readonly epochs?: number;
  readonly memoryBytes: number;
  /** At least one. */
  readonly candidates: readonly BestCandidate[];
}

export interface BestPlan {
  readonly candidate: BestCandidate;
  readonly options: BestRecipe &
    Pick<TrainingOptions, 'epochs' | 'validation' | 'validationEvery' | 'patience' | 'scheduleTime' | 'weightDecay'>;
  /** Passes over the training text that there is time for, or that are worth it if those are fewer. */
  readonly passes: number;
  /** What the law expects of a model besides the text's own part, nats a character: for comparisons alone. */
  readonly expected: number;
  /** The other candidates, by how much worse they are expected to come out. */
  readonly others: readonly { readonly candidate: BestCandidate; readonly worse: number }[];
}

const { law } = bestTable;
/** The shortest run of a size that the search found better with decay. */
interface Decay extends Pick<TrainingOptions, 'layers' | 'hidden'> {
  readonly value: number;
  readonly leastSteps: number;
  readonly leastPasses: number;
}
const decays: readonly Decay[] = bestTable.weightDecay;

/** Passes after which the next one hardly teaches anything: what is left to learn by repetition is a twentieth. */
export const mostPasses = Math.ceil(1 + 3 * law.repetitions);

/** Of the text, and of the time at most: what scores of the validation text may take, and how much faster they are than training. */
const [validationShare, validationTime, validationSpeed] = [0.1, 0.1, 3];
/** Fewer scores than this in a run would choose the best model from too few. */
const fewScores = 8;
/** Characters of a step, for which the law is stated. */
const searchedBatch = 512;
/** How much faster than measured a machine may turn out, whose run then still ends with its time and not with its epochs. */
const slack = 1.25;

/** The recipes of the table with what is given in place of theirs, each size and batch once. */
export function bestRecipes(given: Partial<BestRecipe> = {}): BestRecipe[] {
  const found = new Map<string, BestRecipe>();
  for (const recipe of bestTable.recipes) {
    const chosen = { ...recipe, ...given };
    const { layers, hidden, batchSize, seqLength } = chosen;
    const key = [layers, hidden, batchSize, seqLength].join();
    if (!found.has(key)) found.set(key, chosen);
  }
  return [...found.values()];
}

/** Chooses for a text, a time and a machine. */
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
    options: optionsOf(best.candidate, best.passes, characters, seconds),
    passes: best.passes,
    expected: best.expected,
    others: others.map(({ candidate, expected }) => ({ candidate, worse: expected - best.expected })),
  };
}

function judge({ recipe, charactersPerSecond }: BestCandidate, request: BestRequest) {
  const { characters, symbols, seconds, epochs = mostPasses } = request;
  const text = Math.max(1, (1 - validationShare) * characters);
  const passes = Math.min(mostPasses, epochs, ((1 - validationTime) * seconds * charactersPerSecond) / text);
  return { passes, expected: expectedLoss(recipe, symbols, text, passes) };
}

/**
 * The part of the loss that depends on the model and its training: what its size keeps it from learning, and what it has not seen often
 * enough. A character that is seen again is worth less each time (Muennighoff et al. 2023), and one of a larger batch less than one of a
 * smaller, which makes more updates.
 */
export function expectedLoss(recipe: BestRecipe, symbols: number, text: number, passes: number): number {
  const { repetitions } = law;
  const parameters = parametersOf(recipe, symbols);
  const worth = ((recipe.batchSize * recipe.seqLength) / searchedBatch) ** -law.batchPower;
  const repeated = Math.min(1, passes) + repetitions * (1 - Math.exp(-Math.max(0, passes - 1) / repetitions));
  const seen = Math.max(1, text * repeated * worth);
  return (
    law.capacity * parameters ** -law.capacityPower + law.data * seen ** -law.dataPower * parameters ** -law.sizePower
  );
}

function optionsOf(
  { recipe, charactersPerSecond }: BestCandidate,
  passes: number,
  characters: number,
  seconds: number,
): BestPlan['options'] {
  const { batchSize, seqLength } = recipe;
  const epochs = Math.min(mostPasses, Math.max(1, Math.ceil(slack * passes)));
  // What one score takes of the time, and a tail that is worth no more than that.
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
  const weightDecay = decayOf(recipe, passes * stepsPerEpoch, passes);
  const scored = typeof validationEvery === 'number' ? passes / validationEvery : fewScores;
  return {
    ...recipe,
    epochs,
    validation,
    validationEvery,
    weightDecay,
    patience: Math.max(5, Math.ceil(scored / 3)),
    // The last score comes when the time for training is over.
    scheduleTime: Math.max(seconds / 2, seconds - (validation * characters) / (validationSpeed * charactersPerSecond)),
  };
}

/** Decay keeps a large model from learning its text by heart; a small one, or a short run, is only worse for it. */
export function decayOf(
  { layers, hidden }: Pick<BestRecipe, 'layers' | 'hidden'>,
  steps: number,
  passes: number,
): number {
  const longEnough = decays.filter((each) => each.leastSteps <= steps && each.leastPasses <= passes);
  return longEnough.findLast((each) => each.layers <= layers && each.hidden <= hidden)?.value ?? 0;
}

/** Trainable numbers of a model with one-hot input. */
export function parametersOf({ layers, hidden }: Pick<BestRecipe, 'layers' | 'hidden'>, symbols: number): number {
  return 4 * hidden * (symbols + hidden + 1) + (layers - 1) * 4 * hidden * (2 * hidden + 1) + symbols * (hidden + 1);
}

/** What training takes: weights in two forms, gradients, two moments; gates, cells and outputs of all ticks, and their gradients. */
export function estimateBytes(recipe: BestRecipe, symbols: number): number {
  const { layers, hidden, batchSize, seqLength } = recipe;
  const ticks = seqLength * Math.max(16, batchSize);
  return 4 * (6 * parametersOf(recipe, symbols) + ticks * (16 * layers * hidden + 2 * symbols));
}

/** The plan in two lines: what, and why. */
export function describeBest({ candidate, options, passes, others }: BestPlan, time: number): [string, string] {
  const n = (value: number) => value.toLocaleString('en', { maximumFractionDigits: value < 10 ? 1 : 0 });
  const { layers, hidden, dropout, batchSize, seqLength, learningRate, weightDecay } = options;
  const { validation, validationEvery } = options;
  const size = (of: BestRecipe) => `${of.layers} x ${of.hidden} in batches of ${of.batchSize} x ${of.seqLength}`;
  const [next] = others;
  const epochs = validationEvery === 1 ? 'epoch' : `${validationEvery} epochs`;
  const scored = typeof validationEvery === 'number' ? epochs : validationEvery.replace('steps', ' steps');
  return [
    `planned for ${formatDuration(time)}: ${layers} x ${hidden}, dropout ${dropout}, batches of ${batchSize} x ${seqLength}, ` +
      `rate ${learningRate}, ${weightDecay > 0 ? `weight decay ${weightDecay}, ` : ''}at most ${n(options.epochs)} ${options.epochs === 1 ? 'epoch' : 'epochs'}; ` +
      `${n(100 * validation)} % for validation, scored every ${scored}`,
    `because it trains ${n(candidate.charactersPerSecond)} characters/s here, the text ${n(passes)} times` +
      (next ? `; the next best, ${size(next.candidate.recipe)}, is expected ${next.worse.toFixed(3)} nats worse` : ''),
  ];
}
