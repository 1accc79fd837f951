/** Plans `--preset best` for a text on this machine by briefly timing each size from the search. */
import type { Corpus } from '../corpus/corpus';
import { OutOfMemoryError, UsageError } from '../errors';
import { type LanguageModel, nativeOf } from '../model';
import { type Naming, option } from '../wording';
import {
  type BestCandidate,
  type BestRecipe,
  bestRecipes,
  describeBest,
  estimateBytes,
  parametersOf,
  planBest,
  plannedOptions,
  recipeOptions,
  type SearchedRecipe,
} from './best';
import { type Configuration, placeOf } from './configuration';
import { divideCorpus } from './division';
import { formatDuration } from './duration';
import type { OptionName, TrainingOptions } from './options';
import type { TrainingRequest } from './request';
import { divide, type Named } from './sizes';
import { measureSpeed } from './step-time';

/** The source of an option that the plan has yet to decide. */
const undecided = 'preset best';

/** The share of the available time spent on timing steps, over all sizes, and the most milliseconds for one size. */
const [measuringShare, mostMilliseconds] = [0.05, 2000];

/** The share of the available time after which no further size is measured, since creating a model takes time too. */
const mostShare = 0.15;

/** The share of free memory that training may take. */
const memoryShare = 0.8;

/** Whether a new run has any option left to plan. */
export function isToBePlanned({ options, sources }: Configuration): boolean {
  return options.preset === 'best' && toBePlanned({ options, sources }).length > 0;
}

/** @throws UsageError if planning is impossible. `from`: whether the run starts from an existing model. */
export function checkPlannable(configuration: Configuration, request: TrainingRequest, from: boolean): void {
  const { options } = configuration;
  if (!isToBePlanned(configuration)) return;
  const place = (name: 'preset' | 'from' | 'target') => placeOf(name, configuration, request);
  const refuse = (problem: string): never => {
    throw new UsageError(`${place('preset')}: best ${problem}.`);
  };
  if (from) refuse(`plans a new model, and ${place('from')} has one: leave one of them out`);
  if (request.ranks) refuse('plans for one process: leave it out under a launcher');
  if (options.target === 'last') {
    const every = option({ target: 'every' });
    refuse(`is planned for ${every}, and ${place('target')} says last: leave one of them out`);
  }
  if (timeOf(options) === undefined) {
    refuse(`plans for the time there is: give it, such as ${option({ maxTime: '10m' })}`);
  }
}

/** The options that the plan decides: those not given; weight decay only with Adam, which its values are meant for. */
function toBePlanned({ options, sources }: Pick<Configuration, 'options' | 'sources'>) {
  const adam = options.optimizer === 'adam' || options.optimizer === 'adamw';
  return plannedOptions.filter((name) => sources[name] === undecided && (adam || name !== 'weightDecay'));
}

function memory(): number {
  return memoryShare * process.availableMemory();
}

function timeOf({ maxTime, scheduleTime }: TrainingOptions): number | undefined {
  return scheduleTime > 0 ? scheduleTime : maxTime;
}

/**
 * Decides the options that were not given, and explains the plan in two lines.
 *
 * @param create Creates a model for given options.
 * @throws UsageError if there is less time than measuring takes; DataError if the text is too short for every size.
 */
export async function planConfiguration(
  configuration: Configuration,
  corpus: Corpus,
  create: (options: TrainingOptions) => Promise<LanguageModel>,
  named: Naming,
  signal?: AbortSignal,
): Promise<{ configuration: Configuration; lines: readonly string[] }> {
  const { options, sources } = configuration;
  const began = performance.now();
  const time = timeOf(options) as number;
  const planned: readonly OptionName[] = toBePlanned(configuration);
  const given = Object.fromEntries(
    plannedOptions.flatMap((name) => (planned.includes(name) ? [] : [[name, options[name]]])),
  ) as Partial<TrainingOptions>;
  const recipe: Partial<BestRecipe> = Object.fromEntries(
    recipeOptions.flatMap((name) => (given[name] === undefined ? [] : [[name, given[name]]])),
  );
  const candidates = await measureAll(bestRecipes(recipe), { ...options, named }, corpus, time, create, signal);
  const left = time - (performance.now() - began) / 1000;
  if (left <= 0) {
    throw new UsageError(
      `${formatDuration(time)} is over before the sizes are measured: give more, such as ${option({ maxTime: '1m' })}, or have nothing planned: ${option({ preset: 'fast' })}.`,
    );
  }
  const plan = planBest({
    characters: corpus.length,
    symbols: corpus.vocabulary.size,
    seconds: options.scheduleTime > 0 ? time : left,
    memoryBytes: memory(),
    ...(given.epochs === undefined ? {} : { epochs: given.epochs }),
    candidates,
  });
  const decided = { ...plan.options, ...given };
  return {
    configuration: {
      ...configuration,
      options: { ...options, ...decided },
      sources: { ...sources, ...Object.fromEntries(planned.map((name) => [name, `plan of ${undecided}`])) },
    },
    lines: describeBest({ ...plan, options: decided }, time),
  };
}

async function measureAll(
  recipes: readonly SearchedRecipe[],
  options: TrainingOptions & Named,
  corpus: Corpus,
  time: number,
  create: (options: TrainingOptions) => Promise<LanguageModel>,
  signal: AbortSignal | undefined,
): Promise<BestCandidate[]> {
  const began = performance.now();
  const { size: symbols } = corpus.vocabulary;
  const fitting = recipes.filter(
    ({ recipe }) => divide(corpus.length, { ...options, ...recipe }) && estimateBytes(recipe, symbols) <= memory(),
  );
  // The learning rate does not affect speed, so each size is measured once. The smallest come first, for when time is short.
  const sizes = new Map<string, [SearchedRecipe, ...SearchedRecipe[]]>();
  for (const each of fitting.length > 0 ? fitting : recipes.slice(0, 1)) {
    const { layers, hidden, batchSize, seqLength } = each.recipe;
    const size = [layers, hidden, batchSize, seqLength].join();
    sizes.set(size, [...(sizes.get(size) ?? []), each] as [SearchedRecipe]);
  }
  const smallestFirst = [...sizes.values()].sort(
    ([a], [b]) => parametersOf(a.recipe, symbols) - parametersOf(b.recipe, symbols),
  );
  const milliseconds = Math.min(mostMilliseconds, (1000 * measuringShare * time) / sizes.size);
  const candidates: BestCandidate[] = [];
  for (const same of smallestFirst) {
    if (candidates.length > 0 && performance.now() - began > 1000 * mostShare * time) break;
    const [{ recipe }] = same;
    signal?.throwIfAborted();
    const sized = { ...options, ...recipe };
    const { batches } = await divideCorpus(corpus, sized);
    try {
      using model = await create(sized);
      const charactersPerSecond = await measureSpeed(nativeOf(model), sized, batches, milliseconds, signal);
      candidates.push(...same.map((each) => ({ ...each, charactersPerSecond })));
    } catch (error) {
      if (!(error instanceof OutOfMemoryError) || same === smallestFirst[0]) throw error;
    }
  }
  return candidates;
}
