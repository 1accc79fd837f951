/** What a trainer is made of. */
import { callbackOf, fieldsOf, floatsOf, listOf, optionsOf, recordOf, signalOf, textOf, wholeOf } from '../arguments';
import { type Checkpoint, type CheckpointMetadata, checkResumeState } from '../checkpoint/checkpoint';
import type { Corpus } from '../corpus/corpus';
import type { Vocabulary } from '../corpus/vocabulary';
import { UsageError } from '../errors';
import type { LanguageModel } from '../model';
import type { CheckpointDirectory } from './checkpoints';
import { checkOptions } from './configuration';
import type { TrainingOptions } from './options';

/** What a trainer needs of a model. */
export type TrainedModel = Pick<LanguageModel, 'native' | 'vocabulary' | 'metadata' | 'deviceReason'> &
  Partial<Pick<LanguageModel, 'gpuUsage'>>;

/** What a trainer is made of; see `openTraining` for the usual way to get it all. */
export interface TrainerParts {
  readonly model: TrainedModel;
  readonly corpus: Pick<Corpus, 'ids' | 'length' | 'sha256' | 'sources' | 'notes'> & Partial<Pick<Corpus, 'lines'>>;
  readonly options: TrainingOptions;
  /** Where checkpoints and metrics go; without one nothing is written. */
  readonly run?: CheckpointDirectory;
  /** What to continue from. */
  readonly resume?: { readonly path: string; readonly checkpoint: Checkpoint };
  readonly signal?: AbortSignal | undefined;
}

/** Looks whether the parts are what they should be; those with methods are taken as they are. @throws UsageError */
export function checkParts(parts: TrainerParts): TrainerParts {
  const checked = optionsOf<TrainerParts>('parts', parts, {
    model: (what, value) => {
      const { native, vocabulary, metadata, deviceReason } = fieldsOf<TrainedModel>(what, value, [
        'native',
        'vocabulary',
        'metadata',
        'deviceReason',
      ]);
      methodsOf(`${what}.native`, native, ['trainSteps', 'evaluate', 'read', 'write', 'stop', 'whenIdle']);
      const { size } = fieldsOf<Vocabulary>(`${what}.vocabulary`, vocabulary, ['size']);
      wholeOf(`${what}.vocabulary.size`, size, 1);
      recordOf(`${what}.metadata`, metadata);
      textOf(`${what}.deviceReason`, deviceReason);
      return value as TrainedModel;
    },
    corpus: (what, value) => {
      const names = ['ids', 'length', 'sha256', 'sources', 'notes'] as const;
      const { ids, length, sha256, sources, notes } = fieldsOf<TrainerParts['corpus']>(what, value, names);
      methodsOf(`${what}.ids`, ids, ['read']);
      wholeOf(`${what}.length`, length, 0);
      textOf(`${what}.sha256`, sha256);
      listOf(`${what}.sources`, sources, textOf);
      listOf(`${what}.notes`, notes, textOf);
      return value as TrainerParts['corpus'];
    },
    options: (_, value) => checkOptions(value as TrainingOptions),
    run: (what, value) => {
      methodsOf(what, value, ['saveLast', 'saveBest', 'appendMetrics']);
      return value as CheckpointDirectory;
    },
    resume: (what, value) => {
      const { path, checkpoint } = fieldsOf<NonNullable<TrainerParts['resume']>>(what, value, ['path', 'checkpoint']);
      return { path: textOf(`${what}.path`, path), checkpoint: checkResumed(checkpoint) };
    },
    signal: signalOf,
  });
  for (const name of ['model', 'corpus', 'options'] as const) {
    if (checked[name] === undefined) throw new UsageError(`parts must have ${name}.`);
  }
  if (checked.resume && checked.resume.checkpoint.metadata === undefined) {
    throw new UsageError('the checkpoint to resume must have metadata.');
  }
  return checked;
}

function methodsOf(what: string, value: unknown, names: readonly string[]): void {
  const found = fieldsOf<Record<string, unknown>>(what, value, names);
  for (const name of names) callbackOf(`${what}.${name}`, found[name]);
}

/** The arrays go to the device, which looks at their sizes. */
function checkResumed(checkpoint: Checkpoint): Checkpoint {
  return optionsOf<Checkpoint>('checkpoint', checkpoint, {
    metadata: (what, value) => {
      const metadata = recordOf(what, value) as unknown as CheckpointMetadata;
      return metadata.training === undefined
        ? metadata
        : { ...metadata, training: checkResumeState(metadata.training) };
    },
    parameters: floatsOf,
    firstMoments: floatsOf,
    secondMoments: floatsOf,
    trainingState: floatsOf,
  });
}
