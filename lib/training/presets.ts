/** Named recipes: values for the options that the user does not set. */
import { defaults, type RecipeOption, type TrainingOptions } from './options';

/**
 * The name of a recipe.
 *
 * @category Training
 */
export type PresetName = TrainingOptions['preset'];

/**
 * The recipes. fast: the default. Loss at every position, state carried over, small batches, Adam at a high rate that is constant for
 * half of the steps and then decays to zero: learns most per second, by the search recorded in docs/reproduction.md. A validation tail
 * with early stopping keeps a small text from being merely memorised.
 *
 * best: what a search found to get furthest in the time given by `maxTime` or `scheduleTime`. Sizes, epochs and validation are planned
 * for the text and the machine when training is opened; the values here apply until then (docs/best.md).
 *
 * proj-basic: the exact recipe of "Text Generation With LSTM Recurrent Neural Networks in Python with Keras" (J. Brownlee, 2016), the
 * larger of its two models: id / V as the one feature, shuffled windows of 100 from zero state, Keras' Adam, no clipping, no schedule,
 * the best epoch chosen by the training loss.
 *
 * @category Training
 */
export const presets: Record<PresetName, Pick<TrainingOptions, RecipeOption> & Partial<TrainingOptions>> = {
  fast: {
    epochs: 8,
    batchSize: 16,
    seqLength: 20,
    layers: 2,
    hidden: 256,
    dropout: 0.2,
    target: 'every',
    input: 'onehot',
    learningRate: 5e-3,
    schedule: 'wsd',
    warmup: 50,
    clip: 5,
    validation: 0.1,
    patience: 5,
    sampleTemperature: 0.6,
  },
  best: {
    epochs: 8,
    batchSize: 16,
    seqLength: 32,
    layers: 2,
    hidden: 256,
    dropout: 0.3,
    target: 'every',
    input: 'onehot',
    learningRate: 5e-3,
    schedule: 'wsd',
    scheduleTime: 0,
    weightDecay: 0,
    warmup: 50,
    clip: 5,
    validation: 0.1,
    validationEvery: 1,
    patience: 5,
    sampleTemperature: 0.6,
  },
  'proj-basic': {
    epochs: 50,
    batchSize: 64,
    seqLength: 100,
    layers: 2,
    hidden: 256,
    dropout: 0.2,
    target: 'last',
    input: 'scalar',
    learningRate: 1e-3,
    schedule: 'constant',
    warmup: 0,
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-7,
    clip: 0,
    validation: 0,
    patience: 0,
    lowercase: true,
    sampleTemperature: 0,
    checkpointName: 'weights-improvement-{epoch}-{loss}-bigger-epochs-{epochs}',
  },
};

/** Every option of a preset; `threads`, `maxTime`, `out` and `validationPlaces` are left unset. */
export function presetOptions(name: PresetName): TrainingOptions {
  return { ...defaults, ...presets[name], preset: name };
}
