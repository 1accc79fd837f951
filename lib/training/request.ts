/** The request for a training run. */
import { type Checks, callbackOf, flagOf, optionsOf, pathOf, recordOf, signalOf } from '../arguments';
import type { CorpusInput } from '../corpus/corpus';
import type { DeviceRequest } from '../device/choose';
import type { Ranks } from '../ranks/ranks';
import type { TrainingOptions } from './options';
import { ranksOf } from './parts';

/**
 * What to train, on what, and where to save it.
 *
 * @category Training
 */
export interface TrainingRequest extends Pick<DeviceRequest, 'nativeBinding' | 'onNote'> {
  /**
   * The text: `{ text }`, an async iterable of its pieces, or a list of files, directories, globs, `-` (standard input) and `alice`.
   * `'a.txt:2'` is a text that occurs twice in each epoch. An empty list counts as none.
   *
   * @default what the configuration file or the resumed run names, else the tale that comes with the package
   */
  readonly corpus?: CorpusInput | undefined;
  /**
   * Options by name, as typed values.
   *
   * @default none
   */
  readonly options?: Partial<TrainingOptions> | undefined;
  /**
   * Options from a command line, as text.
   *
   * @default none
   */
  readonly flags?: Readonly<Record<string, string | boolean>> | undefined;
  /**
   * Environment variables that set options, such as `CUDNN_LSTM_HIDDEN`.
   *
   * @default none
   */
  readonly env?: NodeJS.ProcessEnv | undefined;
  /**
   * A JSON file of options, such as a run's config.json; the options given here override it.
   *
   * @default none
   */
  readonly configFile?: string | undefined;
  /**
   * Continues a run: its directory, or `true` for the one given by `out`, else the newest one in `runs/`.
   *
   * @default false
   */
  readonly resume?: string | boolean | undefined;
  /**
   * Fine-tuning: starts from the weights of this checkpoint, or of this run's best one, with a new optimiser and schedule. The
   * vocabulary grows by the text's new symbols; layers, sizes, encoding and normalisation are the model's.
   *
   * @default fresh weights
   */
  readonly from?: string | undefined;
  /**
   * With `from`: a text, usually the one that the model was trained on, that some sequences in every step (`keepShare`) come from, so
   * that the model does not forget it.
   *
   * @default none
   */
  readonly keep?: CorpusInput | undefined;
  /**
   * A text to validate on instead of a share of the corpus: all of it, read with the corpus' symbols. Characters not among these are
   * left out, or become the unknown symbol if there is one.
   *
   * @default what the configuration file or the resumed run names, else none
   */
  readonly validationFile?: CorpusInput | undefined;
  /**
   * `false`: nothing is written. A new run has no directory, and a resumed run's is not changed. Use it for a dry run with
   * `planTraining` of `cudnn-lstm/advanced`.
   *
   * @default true
   */
  readonly save?: boolean | undefined;
  /** Ends the training after the step in progress, with everything saved; the iterator then throws its reason. */
  readonly signal?: AbortSignal | undefined;
  /**
   * The ranks of a job started by a launcher, which train the model together: see `joinRanks` of `cudnn-lstm/advanced`. All must make
   * the same request.
   *
   * @default this process alone
   */
  readonly ranks?: Ranks | undefined;
}

const requestChecks: Checks<TrainingRequest> = {
  // Checked when it is read.
  corpus: (_, value) => value as CorpusInput,
  options: recordOf,
  // Their contents are checked with the options.
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

/** Reads a request as plain values of known types. @throws UsageError if it is not valid. */
export function readRequest(given: TrainingRequest): TrainingRequest {
  return optionsOf<TrainingRequest>('request', given, requestChecks, 'openTraining');
}
