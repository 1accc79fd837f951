/** Named recipes: what an option is where the user says nothing. */
import { defaults, type TrainingOptions } from './options';

export type PresetName = TrainingOptions['preset'];

/**
 * fast: the default. Loss at every position, state carried on, small batches, Adam with a cosine: the most learned a second.
 * With the text that comes with the package (some 50,000 training characters), 40 epochs are 2 million characters: one to two
 * minutes on two cores. A validation tail with early stopping, so that a small text is not merely memorised.
 *
 * proj-basic: the recipe of "Text Generation With LSTM Recurrent Neural Networks in Python with Keras" (J. Brownlee, 2016), as
 * the larger of its two models, to the letter: id / V as the one feature, shuffled windows of 100 from zero state, Keras' Adam,
 * no clipping, no schedule, the best epoch chosen by the training loss.
 */
export const presets: Record<PresetName, Partial<TrainingOptions>> = {
  fast: {
    epochs: 40,
    batchSize: 16,
    seqLength: 50,
    layers: 2,
    hidden: 256,
    dropout: 0.2,
    target: 'every',
    input: 'onehot',
    learningRate: 3e-3,
    schedule: 'cosine',
    warmup: 50,
    clip: 5,
    validation: 0.1,
    patience: 5,
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

/** Every option of a preset; `threads`, `maxTime` and `out` stay open. */
export function presetOptions(name: PresetName): TrainingOptions {
  return { ...defaults, ...presets[name], preset: name };
}
