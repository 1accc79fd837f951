/** Training as a program asks for it: one flat object. */
import { recordOf } from '../arguments';
import type { CorpusInput } from '../corpus/corpus';
import type { ModelOptions } from '../model';
import { checkKeys } from '../nearest';
import type { Ranks } from '../ranks/ranks';
import { type OptionName, optionNames, type TrainingOptions } from './options';
import { openTraining, type Training } from './preparation';

/**
 * What {@link train} takes: every option of {@link TrainingOptions} by its name, and these.
 *
 * @category Training
 */
export interface TrainRequest extends Partial<Omit<TrainingOptions, 'out'>> {
  /**
   * The text: `{ text }`, an async iterable of its pieces, or a list of files, directories, globs, `-` (standard input) and `alice`.
   *
   * @default the tale that comes with the package
   */
  readonly corpus?: CorpusInput | undefined;
  /**
   * The run's directory; `false`: none, and nothing is written.
   *
   * @default `runs/` with the corpus' name and the date
   */
  readonly out?: string | false | undefined;
  /**
   * Continues a run: its directory, or `true` for the one that `out` names, else the newest in `runs/`.
   *
   * @default false
   */
  readonly resume?: string | boolean | undefined;
  /**
   * Fine-tuning: begins with the weights of this checkpoint, or of this run's best one, with a new optimiser and schedule. Its
   * vocabulary grows by what the text has besides; layers, sizes, coding and normalisation are the model's.
   *
   * @default fresh weights
   */
  readonly from?: string | undefined;
  /**
   * With `from`: a text, mostly the one that the model was trained on, of which every step has some sequences (`keepShare`), so that
   * the model does not forget it.
   *
   * @default none
   */
  readonly keep?: CorpusInput | undefined;
  /**
   * A JSON file of options, such as a run's config.json; below the options given here.
   *
   * @default none
   */
  readonly configFile?: string | undefined;
  /** Ends the training after the step in progress, with everything saved; the iterator then throws its reason. */
  readonly signal?: AbortSignal | undefined;
  /**
   * The addon's binary; see {@link ModelOptions.nativeBinding}.
   *
   * @default the one that is found
   */
  readonly nativeBinding?: string | undefined;
  /** Hears of a GPU's self-check; see {@link ModelOptions.onNote}. */
  readonly onNote?: ((line: string) => void) | undefined;
  /**
   * The ranks of a job that a launcher has started, which train the model together: see `joinRanks` of `cudnn-lstm/advanced`. All ask for the same.
   *
   * @default this process alone
   */
  readonly ranks?: Ranks | undefined;
}

const ownKeys = [
  'corpus',
  'out',
  'resume',
  'from',
  'keep',
  'configFile',
  'signal',
  'nativeBinding',
  'onNote',
  'ranks',
] as const;
/** An own key that the list lacks does not compile. */
true satisfies Exclude<keyof TrainRequest, OptionName | (typeof ownKeys)[number]> extends never ? true : false;

/**
 * Opens a training: reads the text, makes the model, and checks that it all fits together. It trains while the result is iterated
 * over, and its `model` generates and scores, during the training and after it:
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
 * @throws UsageError on an unknown option (the one that was probably meant is named) or one out of range; DataError,
 * CheckpointError, DeviceError, OutOfMemoryError or DiskError, each with one line that says what is wrong and what to do.
 * @category Training
 */
export async function train(request: TrainRequest = {}): Promise<Training> {
  const given = recordOf('request', request) as TrainRequest; // Each read once.
  checkKeys(Object.keys(given), [...ownKeys, ...optionNames], 'train');
  const { corpus, out, resume, from, keep, configFile, signal, nativeBinding, onNote, ranks, ...options } = given;
  return openTraining({
    corpus,
    options: { ...options, ...(out === undefined || out === false ? {} : { out }) },
    save: out !== false,
    resume,
    from,
    keep,
    configFile,
    signal,
    nativeBinding,
    onNote,
    ranks,
  });
}
