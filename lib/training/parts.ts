/** What a trainer is made of. */
import type { Checkpoint } from '../checkpoint/checkpoint';
import type { Corpus } from '../corpus/corpus';
import type { LanguageModel } from '../model';
import type { CheckpointDirectory } from './checkpoints';
import type { TrainingOptions } from './options';

/** What a trainer needs of a model. */
export type TrainedModel = Pick<LanguageModel, 'native' | 'vocabulary' | 'metadata' | 'deviceReason'> &
  Partial<Pick<LanguageModel, 'gpuUsage'>>;

/** What a trainer is made of; see `openTraining` for the usual way to get it all. */
export interface TrainerParts {
  readonly model: TrainedModel;
  readonly corpus: Pick<Corpus, 'ids' | 'length' | 'sha256' | 'sources' | 'notes'>;
  readonly options: TrainingOptions;
  /** Where checkpoints and metrics go; without one nothing is written. */
  readonly run?: CheckpointDirectory;
  /** What to continue from. */
  readonly resume?: { readonly path: string; readonly checkpoint: Checkpoint };
  readonly signal?: AbortSignal | undefined;
}
