/** The training options as types: what an editor shows on hover. The table in options.ts is checked against them. */

/**
 * Every training option, with its default (that of the recipe `fast`). A request takes any of them (`Partial<TrainingOptions>`); a
 * {@link Configuration} has them all. `batchSize` is the flag `--batch-size` and the environment variable `CUDNN_LSTM_BATCH_SIZE`.
 *
 * @category Training
 */
export interface TrainingOptions {
  /**
   * The recipe for all options that are not given: `fast`, which a search found to learn most per second; `best`, planned for the
   * text, the machine and `maxTime`; or `proj-basic`, the reference's.
   *
   * @default 'fast'
   */
  preset: 'fast' | 'best' | 'proj-basic';
  /**
   * Passes over the training text, 1 to 1,000,000.
   *
   * @default 8
   */
  epochs: number;
  /**
   * Sequences per step, 1 to 65,536.
   *
   * @default 16
   */
  batchSize: number;
  /**
   * Characters per sequence, 1 to 65,536: how far back a step's gradient reaches, or the length of a window (`target: 'last'`).
   *
   * @default 20
   */
  seqLength: number;
  /**
   * LSTM layers, 1 to 64.
   *
   * @default 2
   */
  layers: number;
  /**
   * Units per layer, 1 to 16,384.
   *
   * @default 256
   */
  hidden: number;
  /**
   * Share of the units dropped after each layer in training, 0 to below 1.
   *
   * @default 0.2
   */
  dropout: number;
  /**
   * Where the loss is taken: at `every` position, with the state carried from one sequence to the next, or at the `last` position of
   * shuffled windows that begin from zero state.
   *
   * @default 'every'
   */
  target: 'every' | 'last';
  /**
   * How a character is encoded: as one feature, its number divided by the vocabulary's size (`scalar`), as one feature per symbol
   * (`onehot`), or as a learned vector (`embedding`).
   *
   * @default 'onehot'
   */
  input: 'scalar' | 'onehot' | 'embedding';
  /**
   * Features per character with `input: 'embedding'`, 1 to 16,384.
   *
   * @default 64
   */
  embeddingSize: number;
  /**
   * The rule that updates the weights. `adamw`, `sgd` and `rmsprop` have their own defaults: see `learningRate`, `beta2`, `momentum`
   * and `weightDecay`.
   *
   * @default 'adam'
   */
  optimizer: 'adam' | 'adamw' | 'sgd' | 'rmsprop';
  /**
   * The optimiser's step size at its peak, above 0 and at most 10. The default with `sgd` is 1, with `rmsprop` 0.003.
   *
   * @default 0.005
   */
  learningRate: number;
  /**
   * How the learning rate changes after the warm-up: not at all (`constant`), along a cosine, in steps, or first not at all and then
   * linearly down (`wsd`).
   *
   * @default 'wsd'
   */
  schedule: 'constant' | 'cosine' | 'step' | 'wsd';
  /**
   * Steps in which the learning rate rises from zero, 0 to 1,000,000,000.
   *
   * @default 50
   */
  warmup: number;
  /**
   * The rate at which the schedules `cosine` and `wsd` end, 0 to 10.
   *
   * @default 0
   */
  finalLearningRate: number;
  /**
   * The schedule `step` lowers the learning rate each time after so many epochs, 1 to 1,000,000.
   *
   * @default 10
   */
  decayEvery: number;
  /**
   * What the schedule `step` multiplies the learning rate by, above 0 and at most 1.
   *
   * @default 0.5
   */
  decayFactor: number;
  /**
   * The share of all steps, at the end, in which the schedule `wsd` lowers the learning rate, above 0 and at most 1.
   *
   * @default 0.5
   */
  decayShare: number;
  /**
   * Run the schedule by the clock, over so many seconds of training, instead of by steps; 0 (by steps) to 1e9. Training ends with it,
   * also if it is resumed. Runs with the same seed then differ, since the clock decides the rate.
   *
   * @default 0
   */
  scheduleTime: number;
  /**
   * Adam's and AdamW's decay of the first moment, 0 to below 1.
   *
   * @default 0.9
   */
  beta1: number;
  /**
   * Adam's, AdamW's and RMSprop's decay of the second moment, 0 to below 1. The default with `rmsprop` is 0.99.
   *
   * @default 0.999
   */
  beta2: number;
  /**
   * Added to the root of the second moment, above 0 and at most 1.
   *
   * @default 1e-7
   */
  epsilon: number;
  /**
   * The share of the previous step that `sgd` or `rmsprop` keeps, 0 to below 1. The default with `sgd` is 0.9.
   *
   * @default 0
   */
  momentum: number;
  /**
   * Decoupled weight decay: each step shrinks the weights, not the biases, by this times the learning rate; 0 (none) to 100. The default
   * with `adamw` is 0.01.
   *
   * @default 0
   */
  weightDecay: number;
  /**
   * Limit on the gradient's global L2 norm, 0 (none) to 1e9.
   *
   * @default 5
   */
  clip: number;
  /**
   * Share of the text, at its end, held out for validation, 0 (none) to below 0.9.
   *
   * @default 0.1
   */
  validation: number;
  /**
   * Take the validation text from so many places, the ends of as many parts of equal length, 1 to 1,000; fewer if the parts would be too
   * short. By default 10 for several files, and 1, the end of the text, for one.
   *
   * @default automatic
   */
  validationPlaces?: number | undefined;
  /**
   * How often the validation text is scored: in epochs, 1 to 1,000,000, or in steps, such as `'500steps'`.
   *
   * @default 1
   */
  validationEvery: number | `${number}steps`;
  /**
   * Training stops after this many scores without a new best, 0 (never) to 1,000,000.
   *
   * @default 5
   */
  patience: number;
  /**
   * With `from`: how many of the lowest layers stay unchanged, with the encoding of the input; 0 to 64.
   *
   * @default 0
   */
  freeze: number;
  /**
   * With `keep`: that text's share of the sequences in a step, 0.001 to 0.999; each text gets at least one sequence.
   *
   * @default 0.2
   */
  keepShare: number;
  /**
   * Decides the initial weights, dropout, the order of the data and the samples; 0 to 2^53 - 1.
   *
   * @default 1
   */
  seed: number;
  /**
   * The arithmetic on a GPU. A CPU knows two: with `bf16`, the weights and activations that a training step multiplies are rounded to
   * bfloat16, and everything else is in fp32; the other names all mean fp32.
   *
   * @default 'tf32'
   */
  precision: 'fp32' | 'tf32' | 'bf16' | 'fp16';
  /**
   * cuDNN's algorithm for training on a GPU. `auto` takes the fastest whose results are those of `standard`, and a resumed run keeps it.
   * Where an algorithm does not apply, `standard` runs.
   *
   * @default 'standard'
   */
  algorithm: 'standard' | 'auto' | 'persist-static' | 'persist-dynamic';
  /**
   * The device: `auto`, `cpu`, `cuda` or one GPU, such as `cuda:1`.
   *
   * @default 'auto'
   */
  device: string;
  /**
   * CPU threads, 1 to 1,024; the results do not depend on it. By default as many as the process has CPUs.
   *
   * @default automatic
   */
  threads?: number | undefined;
  /**
   * Compare a GPU with the CPU before its first use.
   *
   * @default true
   */
  check: boolean;
  /**
   * One text per line, such as names or log lines: each line is learned by itself, with its beginning and its end, and the model writes
   * and scores single lines. The lines are shuffled again every epoch; empty ones are left out. Needs `target: 'every'` and the CPU.
   *
   * @default false
   */
  lines: boolean;
  /**
   * Read the files byte by byte, whatever they are: 256 symbols, no encoding, nothing left out. Losses are then per byte, and what the
   * model writes need not be text.
   *
   * @default false
   */
  bytes: boolean;
  /**
   * Fold characters that occur less often than this into one unknown symbol, which the model never writes. It also stands for all
   * characters that are not in the text, so every prompt is accepted. 1 (none) to 1,000,000,000.
   *
   * @default 1
   */
  minCount: number;
  /**
   * Lower-case the text, and prompts.
   *
   * @default false
   */
  lowercase: boolean;
  /**
   * The Unicode normal form of the text and of prompts, so that é is one symbol however it is written.
   *
   * @default 'none'
   */
  normalize: 'none' | 'nfc' | 'nfkc';
  /**
   * The encoding of the corpus files, by any of its usual names.
   *
   * @default 'utf-8'
   */
  encoding: string;
  /**
   * Strip Project Gutenberg's header and footer from the text (`auto`), or `keep` them.
   *
   * @default 'auto'
   */
  gutenberg: 'auto' | 'keep';
  /**
   * Stop after this many seconds, with a checkpoint; 0 to 1e9. A string such as `'1h30m'` works, too.
   *
   * @default none
   */
  maxTime?: number | undefined;
  /**
   * Seconds between checkpoints during an epoch, 0 (only at the end of epochs) to 1e9.
   *
   * @default 60
   */
  saveEvery: number;
  /**
   * Length of the sample after each epoch, in characters; 0 (none) to 1,000,000.
   *
   * @default 200
   */
  sampleLength: number;
  /**
   * The temperature of that sample, 0 (always the likeliest character) to 100.
   *
   * @default 0.6
   */
  sampleTemperature: number;
  /**
   * File name of the best checkpoint, with the fields `{epoch}`, `{loss}` and `{epochs}`.
   *
   * @default 'weights-improvement-{epoch}-{loss}'
   */
  checkpointName: string;
  /**
   * Lock the run's directory, so that only one trainer uses it at a time. `false` is for file systems that cannot lock.
   *
   * @default true
   */
  lock: boolean;
  /**
   * The run's directory; by default `runs/`, named after the corpus and the date.
   *
   * @default none
   */
  out?: string | undefined;
}
