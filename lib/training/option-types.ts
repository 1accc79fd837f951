/** The training options as types: what hovering over one shows. The table in options.ts is checked against them. */

/**
 * Every training option, with what it is where nothing is said (the recipe `fast`). A request takes any of them
 * (`Partial<TrainingOptions>`); a {@link Configuration} has them all. The flag of `batchSize` is `--batch-size`, its variable
 * `CUDNN_LSTM_BATCH_SIZE`.
 *
 * @category Training
 */
export interface TrainingOptions {
  /**
   * The recipe that supplies what is not given: `fast`, found by search for the most learned a second; `best`, planned for the
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
   * Sequences that a step trains on, 1 to 65,536.
   *
   * @default 16
   */
  batchSize: number;
  /**
   * Characters of a sequence, 1 to 65,536: as far as a step's gradient reaches back, or the length of a window (`target: 'last'`).
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
   * Units of a layer, 1 to 16,384.
   *
   * @default 256
   */
  hidden: number;
  /**
   * Share of the units dropped after every layer in training, 0 to below 1.
   *
   * @default 0.2
   */
  dropout: number;
  /**
   * Where the loss is taken: `every` position, the state carried from sequence to sequence, or the `last` one of shuffled windows
   * that begin from zero state.
   *
   * @default 'every'
   */
  target: 'every' | 'last';
  /**
   * How a character enters the network: one feature, its number over the vocabulary's size (`scalar`), a feature a symbol (`onehot`),
   * or a learned vector (`embedding`).
   *
   * @default 'onehot'
   */
  input: 'scalar' | 'onehot' | 'embedding';
  /**
   * Features of a character with `input: 'embedding'`, 1 to 16,384.
   *
   * @default 64
   */
  embeddingSize: number;
  /**
   * The rule by which gradients change the weights. `adamw`, `sgd` and `rmsprop` have defaults of their own: see
   * `learningRate`, `beta2`, `momentum` and `weightDecay`.
   *
   * @default 'adam'
   */
  optimizer: 'adam' | 'adamw' | 'sgd' | 'rmsprop';
  /**
   * The optimiser's step size, at its highest, above 0 and at most 10. With `sgd` it is 1 where nothing is said, with `rmsprop` 0.003.
   *
   * @default 0.005
   */
  learningRate: number;
  /**
   * How the learning rate changes after the warm-up: not at all (`constant`), down a cosine, down in steps, or stable and then down in a
   * straight line (`wsd`).
   *
   * @default 'wsd'
   */
  schedule: 'constant' | 'cosine' | 'step' | 'wsd';
  /**
   * Steps over which the learning rate rises from zero, 0 to 1,000,000,000.
   *
   * @default 50
   */
  warmup: number;
  /**
   * Where the schedules `cosine` and `wsd` end, 0 to 10.
   *
   * @default 0
   */
  finalLearningRate: number;
  /**
   * After how many epochs the schedule `step` lowers the learning rate each time, 1 to 1,000,000.
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
   * The last share of all steps, in which the schedule `wsd` lowers the learning rate, above 0 and at most 1.
   *
   * @default 0.5
   */
  decayShare: number;
  /**
   * Seconds of training over which the schedule passes, in place of its steps, 0 (by steps) to 1e9. Training ends with it, after a
   * resumption too. Runs of the same seed then differ, as the clock decides the rate.
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
   * Adam's, AdamW's and RMSprop's decay of the second moment, 0 to below 1. With `rmsprop` it is 0.99 where nothing is said.
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
   * What a step of `sgd` or `rmsprop` keeps of the one before, 0 to below 1. With `sgd` it is 0.9 where nothing is said.
   *
   * @default 0
   */
  momentum: number;
  /**
   * A step shrinks the weights, not the biases, by this times the learning rate, apart from the optimiser's rule; 0 (none) to 100. With
   * `adamw` it is 0.01 where nothing is said.
   *
   * @default 0
   */
  weightDecay: number;
  /**
   * Limit of the gradient's global L2 norm, 0 (none) to 1e9.
   *
   * @default 5
   */
  clip: number;
  /**
   * Share of the text, its tail, kept for validation, 0 (none) to below 0.9.
   *
   * @default 0.1
   */
  validation: number;
  /**
   * From how many places of the text the validation text is taken, at the end of as many parts of equal length, 1 to 1,000; fewer where the
   * parts would be too short. By default 10 of several files, and 1, the end of the text, of one.
   *
   * @default automatic
   */
  validationPlaces?: number | undefined;
  /**
   * How often the validation text is scored: a number of epochs, 1 to 1,000,000, or of steps, such as `'500steps'`.
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
   * With `from`: the lowest layers, and the coding of the input with them, that stay as they are; 0 to 64.
   *
   * @default 0
   */
  freeze: number;
  /**
   * With `keep`: that text's share of the sequences of a step, 0.001 to 0.999; at least one sequence is from each text.
   *
   * @default 0.2
   */
  keepShare: number;
  /**
   * Decides initial weights, dropout, the order of the data and samples; 0 to 2^53 - 1.
   *
   * @default 1
   */
  seed: number;
  /**
   * The arithmetic of a GPU. A CPU has two: `bf16` rounds the weights and activations that a training step multiplies, and all else, and
   * what is asked for by the other names, is in fp32.
   *
   * @default 'tf32'
   */
  precision: 'fp32' | 'tf32' | 'bf16' | 'fp16';
  /**
   * cuDNN's algorithm for training on a GPU. `auto`: the fastest that computes what `standard` does, kept for a resumed run. Where one
   * does not apply, `standard` runs.
   *
   * @default 'standard'
   */
  algorithm: 'standard' | 'auto' | 'persist-static' | 'persist-dynamic';
  /**
   * What computes: `auto`, `cpu`, `cuda` or a certain GPU, such as `cuda:1`.
   *
   * @default 'auto'
   */
  device: string;
  /**
   * CPU threads, 1 to 1,024; the result does not depend on it. By default as many as the process has CPUs for.
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
   * One text a line, such as names or log lines: each line is learned by itself, with its beginning and its end, and the model writes
   * and scores single lines. The lines are shuffled anew every epoch; empty ones are left out. Takes `target: 'every'` and the CPU.
   *
   * @default false
   */
  lines: boolean;
  /**
   * Read the files byte by byte, whatever they are: 256 symbols, no encoding, nothing left out. Losses are then of a byte, and what the
   * model writes need be no text.
   *
   * @default false
   */
  bytes: boolean;
  /**
   * Fold the characters that the text has less often than this into one unknown symbol, which the model never writes and which stands
   * for every other character too: no prompt has one that it does not know. 1 (none) to 1,000,000,000.
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
   * The Unicode normal form of the text and of prompts: é as one symbol however it is written.
   *
   * @default 'none'
   */
  normalize: 'none' | 'nfc' | 'nfkc';
  /**
   * The encoding of the corpus' files, by any of its usual names.
   *
   * @default 'utf-8'
   */
  encoding: string;
  /**
   * Take Project Gutenberg's header and footer out of the text (`auto`), or `keep` them.
   *
   * @default 'auto'
   */
  gutenberg: 'auto' | 'keep';
  /**
   * End, with a checkpoint, after this many seconds, 0 to 1e9. A string such as `'1h30m'` is read too.
   *
   * @default none
   */
  maxTime?: number | undefined;
  /**
   * Seconds between checkpoints within an epoch, 0 (at the end of epochs only) to 1e9.
   *
   * @default 60
   */
  saveEvery: number;
  /**
   * Characters of the sample after every epoch, 0 (none) to 1,000,000.
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
   * Let one trainer at a time into the run's directory. `false` is for file systems that cannot lock.
   *
   * @default true
   */
  lock: boolean;
  /**
   * The run's directory; by default `runs/` with the corpus' name and the date.
   *
   * @default none
   */
  out?: string | undefined;
}
