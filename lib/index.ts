/**
 * Train character-level LSTM language models and sample from them, on an NVIDIA GPU or on the CPU.
 *
 * {@link train} trains, {@link LanguageModel} loads, generates and scores. Everything is asynchronous, takes an
 * `AbortSignal` if it may take long, and is freed by `dispose()`. The layer below is in `cudnn-lstm/advanced`.
 *
 * @module cudnn-lstm
 */

export { Vocabulary } from './corpus/vocabulary';
export {
  CheckpointError,
  CudnnLstmError,
  DataError,
  DeviceError,
  DiskError,
  OptionError,
  OutOfMemoryError,
  TrainingError,
  UsageError,
} from './errors';
export { LanguageModel, type ModelOptions, type ScoreOptions } from './model';
export type { GenerateOptions } from './sampling/options';
export type { TrainingEvent } from './training/events';
export { type TrainRequest, train } from './training/train';
export type { Training } from './training/training';
