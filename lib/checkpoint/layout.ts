/**
 * The canonical parameter layout (native/core/layout.h) from a model's shape, so that a file can be checked without the addon.
 * Shapes: V vocabulary, H hidden, E embedding size.
 */
import type { NativeModelSpec, NativeParameter } from '../device/native';

/** What a checkpoint says of its model: all but the seed. */
export type ModelShape = Omit<NativeModelSpec, 'seed'>;

/** Features into the first layer. */
export function inputSize(shape: ModelShape): number {
  if (shape.input === 'scalar') return 1;
  return shape.input === 'onehot' ? shape.vocabulary : shape.embedding;
}

/** [embedding.weight [V, E]], for each layer weight_ih [4H, in], weight_hh [4H, H], bias_ih [4H]; output.weight [V, H], output.bias [V]. */
export function canonicalLayout(shape: ModelShape): NativeParameter[] {
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
