/** Models for other programs: a PyTorch state dict, a Keras archive, an ONNX graph, a page that opens from disk. */
import { flagOf, optionsOf, pathOf, show, signalOf, textOf } from '../arguments';
import { type Checkpoint, loadCheckpoint, saveCheckpoint } from '../checkpoint/checkpoint';
import { writeFileAtomically } from '../checkpoint/disk';
import { canonicalLayout } from '../checkpoint/layout';
import { modelName, resolveCheckpoint } from '../checkpoint/run-directory';
import { OptionError, UsageError } from '../errors';
import { isTaken, readSmallFile } from '../files';
import { harmless } from '../harmless';
import { option } from '../wording';
import { pageOf } from './html';
import { kerasFile } from './keras';
import { onnxFile, type Weights } from './onnx';
import { type OutTensor, torchFile } from './torch';

/** The formats that a model can be exported to. */
export const exportFormats = ['pytorch', 'keras', 'onnx', 'html', 'int8', 'bf16'] as const;
/**
 * A format that a model can be exported to.
 *
 * @category Models of other programs
 */
export type ExportFormat = (typeof exportFormats)[number];

/**
 * Options of `exportModel`.
 *
 * @category Models of other programs
 */
export interface ExportOptions {
  /** The format to write: a page, a graph, or weights for another program. */
  to: ExportFormat;
  /** The file to write; it must not exist. */
  out: string;
  /**
   * A page's heading.
   *
   * @default the run's name
   */
  title?: string | undefined;
  /**
   * Stores a page's weights as 16-bit numbers, which makes it half as large and its predictions slightly different.
   *
   * @default false
   */
  half?: boolean | undefined;
  /** Ends the export, which throws the signal's reason and leaves nothing behind. */
  signal?: AbortSignal | undefined;
}

/**
 * Writes a checkpoint, or the best one of a run, for another program.
 *
 * @returns The files that were written: the model and, for another program (`pytorch`, `keras`, `onnx`), its vocabulary, a JSON list in id
 * order.
 * @category Models of other programs
 */
export async function exportModel(pathOrDirectory: string, options: ExportOptions): Promise<string[]> {
  pathOf('path', pathOrDirectory);
  const checked = optionsOf<ExportOptions>('options', options, {
    to: (_, value) => value as ExportFormat,
    out: pathOf,
    title: textOf,
    half: flagOf,
    signal: signalOf,
  });
  const { signal } = checked;
  if (!exportFormats.includes(checked.to)) {
    const found = typeof checked.to === 'string' ? harmless(checked.to) : show(checked.to);
    throw new OptionError('to', `must be one of ${exportFormats.join(', ')}, not ${found}.`);
  }
  pathOf('out', checked.out);
  for (const [name, value] of Object.entries({ title: checked.title, half: checked.half })) {
    if (value !== undefined && checked.to !== 'html')
      throw new UsageError(`${option(name)} goes with ${option({ to: 'html' })}.`);
  }
  const path = await resolveCheckpoint(pathOrDirectory);
  const checkpoint = await loadCheckpoint(path);
  signal?.throwIfAborted();
  const beside = `${checked.out.replace(/\.[^./\\]*$/, '')}.vocabulary.json`;
  const files =
    checked.to === 'html' || checked.to === 'int8' || checked.to === 'bf16' ? [checked.out] : [checked.out, beside];
  const { metadata } = checkpoint;
  const vocabulary = Buffer.from(`${JSON.stringify(metadata.vocabulary)}\n`);
  for (const file of files) {
    // Another format of the same model has the same vocabulary next to it.
    if ((await isTaken(file)) && !(file === beside && (await holds(file, vocabulary))))
      throw new UsageError(`${file} is there already: name another ${option('out')}.`);
  }
  if (checked.to === 'html' && metadata.normalization.symbols === 'bytes') {
    throw new UsageError(
      `${option({ to: 'html' })} makes a page that writes characters, and the symbols of the model are bytes.`,
    );
  }
  if (checked.to === 'html') {
    await writeFileAtomically(
      checked.out,
      await pageOf(checkpoint, { title: checked.title ?? modelName(pathOrDirectory), half: checked.half ?? false }),
      { signal },
    );
    return files;
  }
  if (checked.to === 'int8' || checked.to === 'bf16') {
    await saveNarrowed(checked.out, checkpoint, checked.to, signal);
    return files;
  }
  if (checked.to === 'pytorch') {
    refuseHardGates(checkpoint, 'torch.nn.LSTM');
    await writeFileAtomically(checked.out, torchFile(stateDictOf(checkpoint)), { signal });
  } else if (checked.to === 'keras') {
    await writeFileAtomically(checked.out, await kerasFile(metadata, weightsOf(checkpoint)), { signal });
  } else {
    const weights = weightsOf(checkpoint);
    await writeFileAtomically(checked.out, onnxFile(metadata, weights), { signal });
  }
  await writeFileAtomically(beside, [vocabulary]);
  return files;
}

async function holds(file: string, bytes: Buffer): Promise<boolean> {
  const found = await readSmallFile(file, bytes.length).catch(() => undefined);
  return found?.equals(bytes) ?? false;
}

/** Writes a checkpoint of this package's own format, without what only training needs. */
async function saveNarrowed(
  out: string,
  checkpoint: Checkpoint,
  weights: 'int8' | 'bf16',
  signal: AbortSignal | undefined,
): Promise<void> {
  const { training: _, ...metadata } = checkpoint.metadata;
  if (metadata.weights !== undefined && metadata.weights !== weights) {
    throw new UsageError(
      `the checkpoint holds ${metadata.weights} weights, of which no ${weights} can be made: export the one that it was made from.`,
    );
  }
  const layout = canonicalLayout({ ...metadata.model, vocabulary: metadata.vocabulary.length });
  await saveCheckpoint(out, { metadata: { ...metadata, weights }, parameters: checkpoint.parameters }, layout, {
    signal,
  });
}

function refuseHardGates({ metadata }: Checkpoint, what: string): void {
  const { gateActivation = 'sigmoid' } = metadata.model;
  if (gateActivation !== 'sigmoid') {
    throw new UsageError(
      `${what} has sigmoid gates only, and the model's are ${gateActivation}; ${option({ to: 'onnx' })} and ${option({ to: 'html' })} have them.`,
    );
  }
}

function weightsOf({ metadata, parameters }: Checkpoint): Weights {
  const layout = canonicalLayout({ ...metadata.model, vocabulary: metadata.vocabulary.length });
  const places = new Map(layout.map((part) => [part.name, part]));
  return (name) => {
    const place = places.get(name);
    if (place === undefined) throw new Error(`no tensor ${name}`);
    return parameters.subarray(place.offset, place.offset + place.size);
  };
}

/** The parameters under PyTorch's names, with torch.nn.LSTM's second bias, which is zero. */
function stateDictOf(checkpoint: Checkpoint): OutTensor[] {
  const { metadata } = checkpoint;
  const weights = weightsOf(checkpoint);
  return canonicalLayout({ ...metadata.model, vocabulary: metadata.vocabulary.length }).flatMap(({ name, shape }) => {
    const tensor = { name, shape, data: weights(name) };
    if (!name.includes('bias_ih')) return [tensor];
    return [tensor, { name: name.replace('bias_ih', 'bias_hh'), shape, data: new Float32Array(tensor.data.length) }];
  });
}
