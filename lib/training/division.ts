/** Divides a corpus: what is trained on, in which order, and what is held out. */
import type { Corpus, CorpusPart } from '../corpus/corpus';
import type { IdSource } from '../corpus/ids';
import { type IdRange, PiecedIds } from '../corpus/pieced-ids';
import type { QueuedModel } from '../device/queue';
import { DataError } from '../errors';
import { grouped, plural } from '../numbers';
import type { Ranks } from '../ranks/ranks';
import { option } from '../wording';
import { type BatchSource, createBatches } from './batches';
import { divideLines, LineBatches, scoreHeldOutLines } from './lines';
import { keptSequences, MixedBatches } from './mixed-batches';
import type { TrainingOptions } from './options';
import type { Named, SizeOptions, Split } from './sizes';
import { scoreTogether, scoreValidation, scoreWholeText, splitCorpus, type ValidationScore } from './validation';
import { WeightedText } from './weights';

/** The parts of a corpus that training needs. */
export type DividedCorpus = Pick<Corpus, 'ids' | 'length'> & Partial<Pick<Corpus, 'lines' | 'parts'>>;

export interface Division {
  /** How many characters are for training, and how many for validation. */
  readonly split: Split;
  readonly batches: BatchSource;
  /**
   * Scores the held-out text, with exclusive use of the model's evaluation state. With `ranks`, all of them call this, each scores a
   * share, and all get the same result.
   *
   * @throws The signal's reason when it is aborted; with `ranks`, {@link abortedElsewhere} on all of them.
   */
  score(native: Scorer, signal?: AbortSignal, ranks?: Ranks): Promise<ValidationScore>;
  /** The same for the kept text, if some of it is held out. */
  readonly kept?: Pick<Division, 'split' | 'score'>;
}

type Scorer = Pick<QueuedModel, 'evaluate' | 'resetEvaluationState' | 'evaluationSequence'>;

/** The options of a run, and how messages name them. */
type DivisionOptions = TrainingOptions & SizeOptions & Named;

/** Texts in addition to the corpus. */
interface TextsBeside {
  /** Mixed into training: every step has some of its sequences, besides those of the corpus. */
  readonly kept?: DividedCorpus | undefined;
  /** Used for validation instead of a share of the corpus. */
  readonly validation?: DividedCorpus | undefined;
}

/**
 * @param options `validation` is 0 if there is a separate validation text.
 * @throws DataError if a text is too short for the options; the message names sizes that fit.
 */
export async function divideCorpus(
  corpus: DividedCorpus,
  options: DivisionOptions,
  { kept, validation }: TextsBeside = {},
): Promise<Division> {
  const divided = await divideTrained(corpus, options, kept);
  if (validation === undefined) return divided;
  const { characters, score } = await divideValidation(validation, options);
  return { ...divided, split: { training: divided.split.training, validation: characters }, score };
}

async function divideTrained(
  corpus: DividedCorpus,
  options: DivisionOptions,
  kept: DividedCorpus | undefined,
): Promise<Division> {
  if (kept === undefined) return divideOne(corpus, options);
  const { batchSize, seqLength, keepShare } = options;
  const sequences = keptSequences(batchSize, keepShare);
  const first = await divideOne(
    corpus,
    withPart(options, (batch) => batch - keptSequences(batch, keepShare)),
  );
  const second = await divideKept(
    kept,
    withPart(options, (batch) => keptSequences(batch, keepShare)),
  );
  return {
    split: first.split,
    batches: new MixedBatches(first.batches, second.batches, sequences, seqLength),
    score: first.score,
    ...(second.split.validation > 0 ? { kept: { split: second.split, score: second.score } } : {}),
  };
}

/** The options for a text that has only some of the sequences of a step: `partOf` a batch. */
function withPart(options: DivisionOptions, partOf: (batch: number) => number): DivisionOptions {
  const { batchSize, named = option } = options;
  const part = partOf(batchSize);
  return {
    ...options,
    batchSize: part,
    named: (given) => (given.batchSize === undefined ? named(given) : `${part} of ${named({ batchSize })}`),
    batchFor: (sequences) => {
      let batch = batchSize;
      while (batch > 2 && partOf(batch) > sequences) batch--;
      return batch;
    },
  };
}

async function divideKept(kept: DividedCorpus, options: DivisionOptions): Promise<Division> {
  try {
    return await divideOne(kept, { ...options, wholeBatches: true });
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    throw new DataError(`the text of ${option('keep')} cannot be used: ${error.message}`, { cause: error });
  }
}

/** Prepares a text that is used entirely for validation. */
async function divideValidation(
  { ids, length, lines }: DividedCorpus,
  options: DivisionOptions,
): Promise<Pick<Division, 'score'> & { characters: number }> {
  const { target, seqLength } = options;
  if (lines) {
    if (lines.count === 0) throw new DataError('The validation text has no line that is not empty; give another one.');
    const divided = await divideLines(lines, 1);
    const characters = divided.split.validation;
    return {
      characters,
      score: (native, signal, ranks) =>
        scoreTogether(native, signal, ranks, (place) =>
          scoreHeldOutLines(native, lines, divided, seqLength, place, signal),
        ),
    };
  }
  const before = target === 'every' ? 1 : seqLength;
  if (length <= before) {
    throw new DataError(
      `The validation text is too short: ${plural(length, 'character')}, of which the first ` +
        `${before === 1 ? 'has nothing' : `${grouped(before)} have no window`} before it; give a longer one.`,
    );
  }
  return {
    characters: length - before,
    score: (native, signal, ranks) =>
      scoreTogether(native, signal, ranks, (place) => scoreWholeText(native, ids, options, place, signal)),
  };
}

async function divideOne({ ids, length, lines, parts }: DividedCorpus, options: DivisionOptions): Promise<Division> {
  if (lines) {
    const divided = await divideLines(lines, options.validation, options);
    return {
      split: divided.split,
      batches: new LineBatches(lines, divided, options, parts),
      score: (native, signal, ranks) =>
        scoreTogether(native, signal, ranks, (place) =>
          scoreHeldOutLines(native, lines, divided, options.seqLength, place, signal),
        ),
    };
  }
  const split = splitCorpus(length, options);
  const spread = spreadOut(length, options);
  if (spread !== undefined) {
    const { training, held } = spread;
    const validation = held.reduce((sum, range) => sum + range.length, 0);
    return {
      split: { training: length - validation, validation, places: held.length },
      batches: batchesOf(ids, training, parts, options),
      score: (native, signal, ranks) =>
        scoreTogether(native, signal, ranks, async (place) => {
          const sum = { nats: 0, characters: 0 };
          for (const { start, length: count } of held) {
            const part = { training: start, validation: count };
            const { nats, characters } = await scoreValidation(native, ids, part, options, place, signal);
            sum.nats += nats;
            sum.characters += characters;
          }
          return sum;
        }),
    };
  }
  return {
    split,
    batches: batchesOf(ids, [{ start: 0, length: split.training }], parts, options),
    score: (native, signal, ranks) =>
      scoreTogether(native, signal, ranks, (place) => scoreValidation(native, ids, split, options, place, signal)),
  };
}

/** The batches of the training ranges, whose parts may have different weights. */
function batchesOf(
  ids: IdSource,
  training: readonly IdRange[],
  parts: readonly CorpusPart[] | undefined,
  options: DivisionOptions,
): BatchSource {
  if (parts === undefined) {
    const trained = new PiecedIds(ids, training);
    return createBatches(() => trained, trained.length, options);
  }
  const weighted = new WeightedText(parts, training);
  let last: { epoch: number; ids: IdSource } | undefined;
  const idsOf = (epoch: number) => {
    if (last?.epoch !== epoch) last = { epoch, ids: new PiecedIds(ids, weighted.rangesOf(epoch)) };
    return last.ids;
  };
  return createBatches(idsOf, weighted.length, options);
}

/**
 * Cuts the text into parts of equal length and holds out the end of each: as many parts as asked for, or fewer, so that each end is
 * worth scoring. Undefined: the end of the whole text is held out.
 */
export function spreadOut(
  length: number,
  {
    validation,
    validationPlaces = 1,
    seqLength,
  }: Pick<TrainingOptions, 'validation' | 'validationPlaces' | 'seqLength'>,
): { training: IdRange[]; held: IdRange[] } | undefined {
  const places = Math.min(validationPlaces, Math.floor((length * validation) / (4 * seqLength)));
  if (places < 2) return undefined;
  const borders = Array.from({ length: places + 1 }, (_, place) => Math.floor((place * length) / places));
  const [training, held]: [IdRange[], IdRange[]] = [[], []];
  for (let place = 0; place < places; place++) {
    const [start, end] = [borders[place] as number, borders[place + 1] as number];
    const count = Math.floor((end - start) * validation);
    training.push({ start, length: end - start - count });
    held.push({ start: end - count, length: count });
  }
  // There must be a full window of text before the first held-out character.
  return (training[0] as IdRange).length < seqLength ? undefined : { training, held };
}
