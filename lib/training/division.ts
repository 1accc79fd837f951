/** How a corpus is divided: what is trained on, in which order, and what is held out. */
import type { Corpus } from '../corpus/corpus';
import type { QueuedModel } from '../device/queue';
import type { Ranks } from '../ranks/ranks';
import { type BatchSource, createBatches } from './batches';
import { divideLines, LineBatches, scoreHeldOutLines } from './lines';
import type { TrainingOptions } from './options';
import type { Split } from './sizes';
import { scoreTogether, scoreValidation, splitCorpus, type ValidationScore } from './validation';

/** What of a corpus is trained on. */
export type DividedCorpus = Pick<Corpus, 'ids' | 'length'> & Partial<Pick<Corpus, 'lines'>>;

export interface Division {
  /** In characters. */
  readonly split: Split;
  readonly batches: BatchSource;
  /**
   * Scores what is held out, with the model's evaluation state to itself. With `ranks`, all of them call, each scores a share, and all
   * get the same.
   *
   * @throws The signal's reason when it is aborted; with `ranks`, {@link abortedElsewhere} on all of them.
   */
  score(native: Scorer, signal?: AbortSignal, ranks?: Ranks): Promise<ValidationScore>;
}

type Scorer = Pick<QueuedModel, 'evaluate' | 'resetEvaluationState' | 'evaluationSequence'>;

/** @throws DataError if the corpus is too short for the options; it names what would fit. */
export function divideCorpus({ ids, length, lines }: DividedCorpus, options: TrainingOptions): Division {
  if (lines) {
    const divided = divideLines(lines, options.validation);
    return {
      split: divided.split,
      batches: new LineBatches(lines, divided, options),
      score: (native, signal, ranks) =>
        scoreTogether(native, signal, ranks, (place) =>
          scoreHeldOutLines(native, lines, divided, options.seqLength, place, signal),
        ),
    };
  }
  const split = splitCorpus(length, options);
  return {
    split,
    batches: createBatches(ids, split.training, options),
    score: (native, signal, ranks) =>
      scoreTogether(native, signal, ranks, (place) => scoreValidation(native, ids, split, options, place, signal)),
  };
}
