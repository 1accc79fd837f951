/** What models must have in common to be mixed, and the metadata of a mixture. */
import { show } from '../arguments';
import type { CheckpointMetadata } from '../checkpoint/checkpoint';
import { nameCharacters, Vocabulary } from '../corpus/vocabulary';
import type { ModelShape } from '../device/native';
import { DataError, UsageError } from '../errors';
import { packageVersion } from '../version';
import { option } from '../wording';

/** What matters about a model to those that it is mixed with. */
export interface Mixable {
  readonly vocabulary: Vocabulary;
  readonly shape: ModelShape;
  readonly metadata: CheckpointMetadata;
  readonly defaultWindow: number;
}

/** The characters that all of the models know, in the first one's order. @throws DataError if there are none. */
export function commonVocabulary(models: readonly Mixable[]): Vocabulary {
  const [first] = models as [Mixable];
  // An unknown symbol stands for what only its own model does not know.
  const folds = models.map(({ vocabulary: { unknownId, symbols } }) => unknownId !== undefined && symbols[unknownId]);
  const unknown = folds.every((symbol) => symbol !== false && symbol === folds[0]) ? (folds[0] as string) : undefined;
  const common = first.vocabulary.symbols.filter(
    (symbol) =>
      models.every(({ vocabulary }) => vocabulary.idOf(symbol) !== undefined) &&
      (symbol === unknown || !folds.includes(symbol)),
  );
  // The unknown symbol alone leaves nothing to write.
  if (common.some((symbol) => symbol !== unknown)) return new Vocabulary(common, unknown);
  const some = models.map(({ vocabulary }) => nameCharacters(vocabulary.symbols)).join('; ');
  throw new DataError(`the models have no character in common, so they cannot be mixed: ${some}`);
}

/** @throws UsageError if the models cannot read the same text. */
export function checkMixable(models: readonly Mixable[]): void {
  const [first] = models as [Mixable];
  const reading = ({ metadata: { normalization } }: Mixable): Record<string, unknown> => ({
    lowercase: normalization.lowercase,
    'normal form': normalization.form,
    'line breaks': normalization.lineBreaks,
    'byte order mark': normalization.byteOrderMark,
    symbols: normalization.symbols,
  });
  const beginning = ({ vocabulary, shape: { resetId } }: Mixable) =>
    resetId === undefined ? undefined : vocabulary.symbols[resetId];
  for (const model of models) {
    for (const [name, value] of Object.entries(reading(model))) {
      const other = reading(first)[name];
      if (value === other) continue;
      throw new UsageError(
        `The models read texts differently, so they cannot be mixed (${name}: ${show(other)} and ${show(value)}): train them with the same ` +
          'options of the text.',
      );
    }
    if (beginning(model) !== beginning(first)) {
      throw new UsageError(
        `A model of single lines cannot be mixed with one of whole texts: train both with ${option({ lines: true })}, or none.`,
      );
    }
    if (model.defaultWindow !== first.defaultWindow) {
      throw new UsageError(
        `Models that are sampled by different windows (${first.defaultWindow} and ${model.defaultWindow} characters, 0: none) cannot be ` +
          `mixed: train them with the same ${option('target')} and ${option('seqLength')}.`,
      );
    }
  }
}

/** The metadata that a checkpoint of the mixture would have, with its models' common vocabulary. */
export function mixtureMetadata(models: readonly Mixable[], vocabulary: Vocabulary): CheckpointMetadata {
  const [first] = models as [Mixable];
  const { resetId } = first.shape;
  const reset = resetId === undefined ? undefined : vocabulary.idOf(first.vocabulary.symbols[resetId] as string);
  const { unknown: _, ...normalization } = first.metadata.normalization;
  const unknown = vocabulary.unknownId === undefined ? {} : { unknown: vocabulary.symbols[vocabulary.unknownId] };
  const hidden = models.reduce((sum, { shape }) => sum + shape.layers * shape.hidden, 0);
  return {
    format: 'cudnn-lstm',
    formatVersion: 1,
    vocabulary: [...vocabulary.symbols],
    normalization: { ...normalization, ...unknown },
    // The layout of the mixture's state: see Mixture.
    model: {
      layers: 1,
      hidden,
      input: 'onehot',
      embedding: 0,
      dropout: 0,
      ...(reset === undefined ? {} : { resetId: reset }),
    },
    configuration: {},
    target: first.metadata.target,
    seqLength: Math.max(...models.map(({ metadata: { seqLength } }) => seqLength)),
    epoch: 0,
    step: 0,
    version: packageVersion,
  };
}
