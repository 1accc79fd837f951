/** What a trainer is made of. */
import { instanceOf } from '../arguments';
import type { Checkpoint, CheckpointMetadata } from '../checkpoint/checkpoint';
import type { Corpus } from '../corpus/corpus';
import type { Vocabulary } from '../corpus/vocabulary';
import type { GpuUsage } from '../device/native';
import type { QueuedModel } from '../device/queue';
import { type LanguageModel, nativeOf, setMetadata } from '../model';
import { Ranks } from '../ranks/ranks';
import type { CheckpointDirectory } from './checkpoints';
import type { Division } from './division';
import type { TrainingOptions } from './options';

/** What a trainer needs of a model. */
export interface TrainedModel {
  readonly native: QueuedModel;
  readonly vocabulary: Vocabulary;
  /** The trainer keeps epoch, step and losses up to date. */
  metadata: CheckpointMetadata;
  readonly deviceReason: string;
  gpuUsage?(): Promise<GpuUsage | null>;
}

/** What `openTraining` makes a trainer of. */
export interface TrainerParts {
  readonly model: TrainedModel;
  readonly corpus: Pick<Corpus, 'ids' | 'length' | 'sha256' | 'sources' | 'notes'> &
    Partial<Pick<Corpus, 'lines' | 'parts'>>;
  readonly options: TrainingOptions;
  /** How the corpus, and the text that is kept, are divided. */
  readonly division: Division;
  /** A text of which some sequences are in every step, beside those of the corpus. */
  readonly kept?: TrainerParts['corpus'] | undefined;
  /** A text that is validated on, instead of a share of the corpus. */
  readonly validation?: TrainerParts['corpus'] | undefined;
  /** The checkpoint that the weights of a fine-tuning are from, and what the corpus has that its model does not know. */
  readonly from?: { readonly checkpoint: string; readonly newSymbols: readonly string[] } | undefined;
  /** Where checkpoints and metrics go; without one nothing is written. */
  readonly run?: CheckpointDirectory;
  /** What to continue from. */
  readonly resume?: { readonly path: string; readonly checkpoint: Checkpoint };
  readonly signal?: AbortSignal | undefined;
  /** Those that train this model together, each with its own trainer. Rank 0 alone has a `run`. */
  readonly ranks?: Ranks | undefined;
}

export function trainable(model: LanguageModel): TrainedModel {
  return {
    native: nativeOf(model),
    vocabulary: model.vocabulary,
    deviceReason: model.deviceReason,
    get metadata() {
      return model.metadata;
    },
    set metadata(metadata) {
      setMetadata(model, metadata);
    },
    gpuUsage: () => model.gpuUsage(),
  };
}

/** Those of a job, where there are several. */
export function ranksOf(what: string, value: unknown): Ranks {
  return instanceOf(what, value, Ranks, 'what joinRanks gives');
}
