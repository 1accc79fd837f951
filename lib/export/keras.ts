/**
 * A `.keras` archive for Keras 3: a configuration and the weights in HDF5, which the optional package h5wasm writes. Its input is ids
 * [batch, T] with an embedding, else [batch, T, V] one-hot or [batch, T, 1], id / V; its output is the probabilities of the next symbol,
 * after every position or, for a model of windows, after the last.
 *
 * Shapes: T steps, V vocabulary, H hidden, in = features into a layer.
 */
import type { CheckpointMetadata } from '../checkpoint/checkpoint';
import { UsageError } from '../errors';
import { transpose } from '../import/foreign';
import { writeHdf5 } from '../import/hdf5';
import { option } from '../wording';
import type { Weights } from './onnx';
import { zipOf } from './zip-writer';

/** The Keras version of this configuration. */
const kerasVersion = '3.0.0';

type Config = Record<string, unknown>;

function layer(className: string, config: Config): Config {
  return { module: 'keras.layers', class_name: className, config, registered_name: null };
}

function configOf({ model, vocabulary, target, seqLength }: CheckpointMetadata): Config {
  const V = vocabulary.length;
  const steps = target === 'last' ? seqLength : null;
  const shape = model.input === 'embedding' ? [null, steps] : [null, steps, model.input === 'onehot' ? V : 1];
  const gates = (model.gateActivation ?? 'sigmoid') === 'sigmoid' ? 'sigmoid' : 'hard_sigmoid';
  const layers = [layer('InputLayer', { name: 'symbols', batch_shape: shape, dtype: 'float32' })];
  if (model.input === 'embedding')
    layers.push(layer('Embedding', { name: 'embedding', input_dim: V, output_dim: model.embedding }));
  for (let l = 0; l < model.layers; l++) {
    const sequences = target === 'every' || l < model.layers - 1;
    const own = { name: l === 0 ? 'lstm' : `lstm_${l}`, units: model.hidden, return_sequences: sequences };
    layers.push(layer('LSTM', { ...own, activation: 'tanh', recurrent_activation: gates, use_bias: true }));
    if (model.dropout > 0)
      layers.push(layer('Dropout', { name: l === 0 ? 'dropout' : `dropout_${l}`, rate: model.dropout }));
  }
  layers.push(layer('Dense', { name: 'dense', units: V, activation: 'softmax', use_bias: true }));
  return {
    module: 'keras',
    class_name: 'Sequential',
    config: { name: 'character_lstm', trainable: true, layers, build_input_shape: shape },
    registered_name: null,
    build_config: { input_shape: shape },
  };
}

/** The pieces of the archive. @throws UsageError if Keras 3 has no such gates. */
export async function kerasFile(metadata: CheckpointMetadata, weights: Weights): Promise<Uint8Array[]> {
  const { model, vocabulary } = metadata;
  const { hidden: H, layers: L } = model;
  if (model.gateActivation === 'hard_sigmoid') {
    throw new UsageError(
      `Keras 3 has no gates of the older hard_sigmoid, which are this model's; ${option({ to: 'onnx' })} and ${option({ to: 'html' })} have them.`,
    );
  }
  const V = vocabulary.length;
  const tensors: { path: string; shape: number[]; data: Float32Array }[] = [];
  const add = (group: string, ...parts: [shape: number[], data: Float32Array][]) => {
    for (const [i, [shape, data]] of parts.entries()) tensors.push({ path: `layers/${group}/vars/${i}`, shape, data });
  };
  if (model.input === 'embedding') add('embedding', [[V, model.embedding], weights('embedding.weight')]);
  for (let l = 0; l < L; l++) {
    const input = weights(`lstm.weight_ih_l${l}`);
    const features = input.length / (4 * H);
    add(
      `${l === 0 ? 'lstm' : `lstm_${l}`}/cell`,
      [[features, 4 * H], transpose(input, 4 * H, features)],
      [[H, 4 * H], transpose(weights(`lstm.weight_hh_l${l}`), 4 * H, H)],
      [[4 * H], weights(`lstm.bias_ih_l${l}`)],
    );
  }
  add('dense', [[H, V], transpose(weights('output.weight'), V, H)], [[V], weights('output.bias')]);
  const json = (value: unknown) => Buffer.from(JSON.stringify(value));
  const entries = [
    { name: 'metadata.json', bytes: json({ keras_version: kerasVersion, date_saved: '1980-01-01@00:00:00' }) },
    { name: 'config.json', bytes: json(configOf(metadata)) },
    { name: 'model.weights.h5', bytes: await writeHdf5(tensors) },
  ];
  return [...zipOf(entries)];
}
