/**
 * The canonical parameter layout (native/core/layout.h) from a model's shape, so that a file can be checked without the addon.
 * Shapes: V vocabulary, H hidden, E embedding size.
 */
import { choiceOf, optionsOf, show, wholeOf } from '../arguments';
import { gateActivations, type ModelShape, type NativeParameter } from '../device/native';
import { UsageError } from '../errors';

export type { ModelShape } from '../device/native';

/**
 * Checks a model's shape and returns it as plain values.
 *
 * @throws UsageError for a shape that no model can have.
 */
export function checkShape(shape: ModelShape): ModelShape {
  const extent = (most: number) => (what: string, value: unknown) => wholeOf(what, value, 1, most);
  const checked = optionsOf<ModelShape>('shape', shape, {
    vocabulary: extent(65_536),
    layers: extent(64),
    hidden: extent(65_536),
    input: (what, value) => choiceOf(what, value, ['scalar', 'onehot', 'embedding']),
    embedding: (what, value) => wholeOf(what, value, 0, 65_536),
    dropout: (what, value) => {
      if (typeof value === 'number' && value >= 0 && value < 1) return value;
      throw new UsageError(`${what} must be a number from 0 to below 1, not ${show(value)}.`);
    },
    gateActivation: (what, value) => choiceOf(what, value, gateActivations),
    resetId: (what, value) => wholeOf(what, value, 0, 65_535),
  });
  for (const name of ['vocabulary', 'layers', 'hidden', 'input', 'embedding', 'dropout'] as const) {
    if (checked[name] === undefined) throw new UsageError(`shape must say ${name}.`);
  }
  if (checked.resetId !== undefined && checked.resetId >= checked.vocabulary) {
    throw new UsageError(`resetId must be the id of one of ${checked.vocabulary} symbols, not ${checked.resetId}.`);
  }
  return checked;
}

/** Number of input features of the first layer. */
export function inputSize(shape: ModelShape): number {
  if (shape.input === 'scalar') return 1;
  return shape.input === 'onehot' ? shape.vocabulary : shape.embedding;
}

/**
 * Where each tensor lies in the flat array of parameters: [embedding.weight [V, E]], for each layer weight_ih [4H, in], weight_hh [4H,
 * H], bias_ih [4H]; output.weight [V, H], output.bias [V].
 *
 * @category Checkpoints and runs
 */
export function canonicalLayout(given: ModelShape): NativeParameter[] {
  const shape = checkShape(given);
  const parameters: NativeParameter[] = [];
  let offset = 0;
  const add = (name: string, ...extents: number[]) => {
    const size = extents.reduce((product, extent) => product * extent, 1);
    parameters.push({ name, shape: extents, offset, size });
    offset += size;
  };
  const gates = 4 * shape.hidden;
  if (shape.input === 'embedding') add('embedding.weight', shape.vocabulary, shape.embedding);
  for (let layer = 0; layer < shape.layers; layer++) {
    add(`lstm.weight_ih_l${layer}`, gates, layer === 0 ? inputSize(shape) : shape.hidden);
    add(`lstm.weight_hh_l${layer}`, gates, shape.hidden);
    add(`lstm.bias_ih_l${layer}`, gates);
  }
  add('output.weight', shape.vocabulary, shape.hidden);
  add('output.bias', shape.vocabulary);
  return parameters;
}

/** Number of floats in a layout. */
export function layoutSize(layout: readonly NativeParameter[]): number {
  return layout.reduce((sum, parameter) => sum + parameter.size, 0);
}
