/** Training from a program: one flat object of options. */
import { recordOf } from '../arguments';
import { checkKeys } from '../nearest';
import { type OptionName, optionNames, type TrainingOptions } from './options';
import { openTraining } from './preparation';
import type { TrainingRequest } from './request';
import type { Training } from './training';

/**
 * The options of {@link train}: every option of {@link TrainingOptions} by its name, the fields of a {@link TrainingRequest}, and where
 * to save the run.
 *
 * @category Training
 */
export interface TrainRequest
  extends Partial<Omit<TrainingOptions, 'out'>>,
    Omit<TrainingRequest, 'options' | 'flags' | 'env' | 'save'> {
  /**
   * The run's directory; `false`: none, and nothing is written.
   *
   * @default `runs/` with the corpus' name and the date
   */
  readonly out?: string | false | undefined;
}

const ownKeys = [
  'corpus',
  'out',
  'resume',
  'from',
  'keep',
  'validationFile',
  'configFile',
  'signal',
  'nativeBinding',
  'onNote',
  'ranks',
] as const;
/** Does not compile if the list lacks a key. */
true satisfies Exclude<keyof TrainRequest, OptionName | (typeof ownKeys)[number]> extends never ? true : false;

/**
 * Opens a training run: reads the text, creates the model, and checks that everything fits together. It trains while the result is
 * iterated over, and its `model` can generate and score during training and after it:
 *
 * ```js
 * const training = await train({ corpus: { text }, hidden: 128, epochs: 5, out: false });
 * for await (const event of training) if (event.type === 'epoch') console.log(event.validationLoss);
 * console.log(await training.model.generateText({ length: 200 }));
 * await training.dispose();
 * ```
 *
 * No option is taken from the environment.
 *
 * @throws UsageError on an unknown option (with a suggestion of what was probably meant) or one out of range; DataError,
 * CheckpointError, DeviceError, OutOfMemoryError or DiskError, each with one line that says what is wrong and what to do.
 * @category Training
 */
export async function train(request: TrainRequest = {}): Promise<Training> {
  const given = recordOf('request', request) as TrainRequest; // Reads each property once.
  checkKeys(Object.keys(given), [...ownKeys, ...optionNames], 'train');
  const {
    corpus,
    out,
    resume,
    from,
    keep,
    validationFile,
    configFile,
    signal,
    nativeBinding,
    onNote,
    ranks,
    ...options
  } = given;
  return openTraining({
    corpus,
    options: { ...options, ...(out === undefined || out === false ? {} : { out }) },
    save: out !== false,
    resume,
    from,
    keep,
    validationFile,
    configFile,
    signal,
    nativeBinding,
    onNote,
    ranks,
  });
}
