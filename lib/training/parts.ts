/** The parts of a trainer. */
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

/** What a trainer needs from a model. */
export interface TrainedModel {
  readonly native: QueuedModel;
  readonly vocabulary: Vocabulary;
  /** The trainer keeps epoch, step and losses up to date. */
  metadata: CheckpointMetadata;
  readonly deviceReason: string;
  gpuUsage?(): Promise<GpuUsage | null>;
}

/** What `openTraining` makes a trainer from. */
export interface TrainerParts {
  readonly model: TrainedModel;
  readonly corpus: Pick<Corpus, 'ids' | 'length' | 'sha256' | 'sources' | 'notes'> &
    Partial<Pick<Corpus, 'lines' | 'parts'>>;
  readonly options: TrainingOptions;
  /** How the corpus and the kept text are divided. */
  readonly division: Division;
  /** A text that some of the sequences in every step come from, besides those of the corpus. */
  readonly kept?: TrainerParts['corpus'] | undefined;
  /** Used for validation instead of a share of the corpus. */
  readonly validation?: TrainerParts['corpus'] | undefined;
  /** When fine-tuning: the checkpoint that the weights come from, and the symbols of the corpus that its model does not know. */
  readonly from?: { readonly checkpoint: string; readonly newSymbols: readonly string[] } | undefined;
  /** Where checkpoints and metrics go; without it nothing is written. */
  readonly run?: CheckpointDirectory;
  /** The checkpoint to continue from. */
  readonly resume?: { readonly path: string; readonly checkpoint: Checkpoint };
  readonly signal?: AbortSignal | undefined;
  /** The ranks that train this model together, each with its own trainer. Only rank 0 has a `run`. */
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

/** Checks that a value is the ranks of a job. */
export function ranksOf(what: string, value: unknown): Ranks {
  return instanceOf(what, value, Ranks, 'what joinRanks gives');
}
