/** Contradictions within a checkpoint's metadata. Each part may be valid by itself, but together they describe no model. */
import { byteNormalization, isByteVocabulary } from '../corpus/bytes';
import { normalizePart } from '../corpus/normalization';
import { nameCharacters } from '../corpus/vocabulary';
import type { CheckpointMetadata } from './checkpoint';

/** The parts that are compared with one another. */
type Described = Pick<CheckpointMetadata, 'vocabulary' | 'normalization' | 'model'> &
  Partial<Pick<CheckpointMetadata, 'epoch' | 'step' | 'weights' | 'training'>>;

/**
 * The contradiction, worded to end a sentence: `it is not usable: its input is onehot, with an embedding of 8`; undefined: there is none.
 *
 * @param tensors Names of the training tensors that the checkpoint has in addition to its weights.
 */
export function contradictionIn(metadata: Described, tensors: readonly string[] = []): string | undefined {
  return ofModel(metadata) ?? ofSymbols(metadata) ?? ofTraining(metadata, tensors);
}

function ofModel({ vocabulary, model }: Described): string | undefined {
  const { input, embedding, resetId = 0 } = model;
  if (resetId >= vocabulary.length) return `its model begins anew at a symbol ${resetId} that it does not have`;
  if ((input === 'embedding') !== embedding > 0) return `its input is ${input}, with an embedding of ${embedding}`;
  return undefined;
}

function ofSymbols({ vocabulary, normalization, model: { resetId } }: Described): string | undefined {
  if (normalization.symbols === 'bytes') {
    if (!isByteVocabulary(vocabulary)) return 'its symbols are bytes, and its vocabulary is not the 256 bytes in order';
    const other = Object.keys({ ...normalization, ...byteNormalization }).find((key) => {
      const name = key as keyof typeof normalization;
      return normalization[name] !== byteNormalization[name];
    });
    if (other !== undefined)
      return `its symbols are bytes, which are taken as they are, and its '${other}' says otherwise`;
    return resetId === undefined ? undefined : 'its symbols are bytes, and it begins anew at one of them';
  }
  const begun = resetId === undefined ? undefined : vocabulary[resetId];
  if (begun !== undefined && begun === normalization.unknown)
    return `it begins anew at ${nameCharacters([begun])}, which stands for all that is unknown`;
  // Nothing composes with a line break, so all symbols can be checked together.
  const all = vocabulary.join('\n');
  if (normalizePart(all, normalization) === all) return undefined;
  const never = vocabulary.filter((symbol) => normalizePart(symbol, normalization) !== symbol);
  return `its vocabulary has ${nameCharacters(never)}, which no text has that is read as its normalization says`;
}

function ofTraining({ epoch, step, weights, training }: Described, tensors: readonly string[]): string | undefined {
  if (training === undefined) {
    // Moments mean nothing without the count of their steps: if that was lost, more may have been.
    if (tensors.length === 0) return undefined;
    return `it has ${tensors.join(', ')}, and nothing says of which training; save it anew without ${tensors.length > 1 ? 'them' : 'it'}`;
  }
  if (weights !== undefined) return `its weights are ${weights}, which cannot be trained, and it is in training`;
  for (const [what, here, there] of [
    ['epoch', epoch, training.epoch],
    ['step', step, training.stepCount],
  ] as const) {
    if (here !== undefined && here !== there)
      return `it was saved at ${what} ${here}, and its training stands at ${there}`;
  }
  const { corpusParts, corpusLength } = training;
  const whole = corpusParts?.reduce((sum, { length }) => sum + length, 0);
  if (whole !== undefined && whole !== corpusLength)
    return `its corpus has ${corpusLength} characters, and the parts of it ${whole}`;
  return undefined;
}
