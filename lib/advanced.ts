/**
 * The layer below `LanguageModel` and `train`: checkpoints and run directories, texts as ids, devices, plans, models
 * from other programs, and the types of options, results and events.
 *
 * ```js
 * import { exportModel, inspectMachine } from 'cudnn-lstm/advanced';
 * ```
 *
 * @module cudnn-lstm/advanced
 */
export {
  type Checkpoint,
  type CheckpointMetadata,
  type CorpusRecord,
  loadCheckpoint,
  type ModelShape,
  type ResumeState,
  readCheckpointMetadata,
  saveCheckpoint,
} from './checkpoint/checkpoint';
export { type CheckpointInfo, inspectCheckpoint } from './checkpoint/inspect';
export { loadKnownLines } from './checkpoint/known-lines';
export { canonicalLayout } from './checkpoint/layout';
export { RunDirectory, resolveCheckpoint } from './checkpoint/run-directory';
export {
  bundledCorpusPath,
  type Corpus,
  type CorpusInput,
  type CorpusOptions,
  type CorpusPart,
  type CorpusText,
  openCorpus,
} from './corpus/corpus';
export type { IdArray, IdSource } from './corpus/ids';
export { KnownLines } from './corpus/known-lines';
export type { LineIndex } from './corpus/lines';
export { type NormalForm, type Normalization, normalizeText } from './corpus/normalization';
export type { TextIndex } from './corpus/text-index';
export type { EncodeOptions } from './corpus/vocabulary';
export type { CheckKey, CheckReport } from './device/check-record';
export {
  chooseDevice,
  chooseThreads,
  type DeviceChoice,
  type DeviceName,
  type DeviceRequest,
  type ThreadChoice,
} from './device/choose';
export type { CheckDifference, CheckedCase } from './device/comparison';
export { inspectMachine, type MachineInfo } from './device/machine';
export type {
  Algorithm,
  ChosenAlgorithm,
  GateActivation,
  GpuUsage,
  InputCoding,
  NativeCpuInfo,
  NativeCudaDevice,
  NativeCudaInfo,
  NativeParameter,
  Optimizer,
  Precision,
  Target,
  WeightForm,
} from './device/native';
export { exitCodes } from './errors';
export { type ExportFormat, type ExportOptions, exportModel } from './export/export';
export { type ImportedModel, type ImportOptions, importModel } from './import/import';
export type { Proof } from './import/prove';
export { saveImported } from './import/save';
export type { CreateOptions, InspectOptions, MixturePart } from './model';
export type { RankForecast } from './ranks/efficiency';
export { type JoinOptions, joinRanks } from './ranks/join';
export type { Ranks } from './ranks/ranks';
export type { GeneratedPiece } from './sampling/generate';
export type { GenerateLinesOptions, SamplingOptions } from './sampling/options';
export type { Proposal, Session, SessionDrawOptions, SessionMark } from './sampling/session';
export type { InspectionOptions, Rival } from './scoring/inspect';
export type { Inspection } from './scoring/inspection';
export type { ReadableIds, Score, ScoringOptions } from './scoring/score';
export type { WindowProtocolOptions, WindowScore } from './scoring/window-protocol';
export type { Configuration } from './training/configuration';
export type {
  BaselineEvent,
  CheckpointEvent,
  EndEvent,
  EndReason,
  EpochEvent,
  SampleEvent,
  StartEvent,
  StepEvent,
  ValidationEvent,
} from './training/events';
export type { OptionName, RecipeOption, TrainingOptions } from './training/options';
export { planTraining, type RanksPlan, type TrainingPlan } from './training/plan';
export { openTraining } from './training/preparation';
export { type PresetName, presets } from './training/presets';
export type { TrainingRequest } from './training/request';
export { packageVersion } from './version';
