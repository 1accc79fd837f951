/** What a training is asked for. */
import { type Checks, callbackOf, flagOf, optionsOf, pathOf, recordOf, signalOf } from '../arguments';
import type { CorpusInput } from '../corpus/corpus';
import type { DeviceRequest } from '../device/choose';
import type { Ranks } from '../ranks/ranks';
import type { TrainingOptions } from './options';
import { ranksOf } from './parts';

/**
 * What to train, on what, and where it is written.
 *
 * @category Training
 */
export interface TrainingRequest extends Pick<DeviceRequest, 'nativeBinding' | 'onNote'> {
  /**
   * The text: `{ text }`, an async iterable of its pieces, or a list of files, directories, globs, `-` (standard input) and `alice`, where
   * `'a.txt:2'` is a text that an epoch has twice; an empty list counts as none.
   *
   * @default what the configuration file or the resumed run names, else the tale that comes with the package
   */
  readonly corpus?: CorpusInput | undefined;
  /**
   * Options as a program gives them, by name.
   *
   * @default none
   */
  readonly options?: Partial<TrainingOptions> | undefined;
  /**
   * Options as a command line gives them, as text.
   *
   * @default none
   */
  readonly flags?: Readonly<Record<string, string | boolean>> | undefined;
  /**
   * Variables that stand for options: `CUDNN_LSTM_HIDDEN`.
   *
   * @default none
   */
  readonly env?: NodeJS.ProcessEnv | undefined;
  /**
   * A JSON file of options, such as a run's config.json; below those given here.
   *
   * @default none
   */
  readonly configFile?: string | undefined;
  /**
   * Continues a run: its directory, or `true` for the one that `out` names, else the newest one in `runs/`.
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
   * A text to validate on, in place of a share of the corpus: all of it, read with the corpus' symbols. Characters that these lack are
   * left out, or are the unknown symbol where there is one.
   *
   * @default what the configuration file or the resumed run names, else none
   */
  readonly validationFile?: CorpusInput | undefined;
  /**
   * `false`: without a directory, and of a resumed run nothing is changed, so that nothing is written. It is what `planTraining` of
   * `cudnn-lstm/advanced` takes for a dry run.
   *
   * @default true
   */
  readonly save?: boolean | undefined;
  /** Ends the training after the step in progress, with everything saved; the iterator then throws its reason. */
  readonly signal?: AbortSignal | undefined;
  /**
   * The ranks of a job that a launcher has started, which train the model together: see `joinRanks` of `cudnn-lstm/advanced`. All ask
   * for the same.
   *
   * @default this process alone
   */
  readonly ranks?: Ranks | undefined;
}

const requestChecks: Checks<TrainingRequest> = {
  // Looked at where it is read.
  corpus: (_, value) => value as CorpusInput,
  options: recordOf,
  // What they hold is looked at with the options.
  flags: (what, value) => recordOf(what, value) as Record<string, string | boolean>,
  env: (what, value) => recordOf(what, value) as NodeJS.ProcessEnv,
  configFile: pathOf,
  resume: (what, value) => (typeof value === 'boolean' ? value : pathOf(what, value)),
  from: pathOf,
  keep: (_, value) => value as CorpusInput,
  validationFile: (_, value) => value as CorpusInput,
  save: flagOf,
  signal: signalOf,
  nativeBinding: pathOf,
  onNote: callbackOf,
  ranks: ranksOf,
};

/** A request as plain values of known types. @throws UsageError for what is none. */
export function readRequest(given: TrainingRequest): TrainingRequest {
  return optionsOf<TrainingRequest>('request', given, requestChecks, 'openTraining');
}
