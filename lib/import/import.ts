/**
 * Models trained by other programs: PyTorch, Keras, ml5 and char-rnn-tensorflow, TensorFlow.js. A file is recognised by its content, read
 * as data, converted to this package's layout, given a vocabulary, and proved on a piece of text.
 */
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { type Checks, choiceOf, optionsOf, pathOf, signalOf, textOf, wholeOf } from '../arguments';
import type { Checkpoint, CheckpointMetadata, ModelShape } from '../checkpoint/checkpoint';
import { canonicalLayout, layoutSize } from '../checkpoint/layout';
import { parseStrictJson } from '../checkpoint/strict-json';
import { bundledCorpusPath } from '../corpus/sources';
import { largestVocabulary } from '../corpus/vocabulary';
import { deviceChecks } from '../device/choose';
import { type GateActivation, gateActivations, type NativeParameter } from '../device/native';
import { type CheckpointError, CudnnLstmError, DataError, UsageError } from '../errors';
import { LanguageModel, type ModelOptions, nativeOf } from '../model';
import { packageVersion } from '../version';
import { option } from '../wording';
import { foreign, Refusal, readWhole } from './bounds';
import { jsonModel } from './dumps';
import type { ForeignModel } from './foreign';
import { type Hdf5Read, isHdf5, readHdf5 } from './hdf5';
import { kerasModel } from './keras';
import { PickleReader } from './pickle';
import { type Proof, type Reading, readingsOfText, tryReading } from './prove';
import { readMiddle, readRaw } from './raw-text';
import { isTorchStream, readTorchStream, readTorchZip } from './torch';
import { torchModel } from './torch-model';
import { normalizationFor, pythonPrintable, symbolsOf, toVocabulary, vocabulariesIn } from './vocabularies';
import { ZipArchive } from './zip';

/**
 * How a foreign model is imported.
 *
 * @category Models of other programs
 */
export interface ImportOptions
  extends Pick<ModelOptions, 'device' | 'threads' | 'nativeBinding' | 'check' | 'onNote' | 'env'> {
  /**
   * A JSON file or a pickle with the symbols: a list in id order, `{symbol: id}` or `{id: symbol}`; or `'python-printable'`, Python's
   * string.printable.
   *
   * @default what the file itself holds
   */
  vocabulary?: string | undefined;
  /**
   * A file with the text it was trained on; its characters in code point order are the vocabulary.
   *
   * @default none
   */
  corpus?: string | undefined;
  /**
   * A file with a text to prove the model on.
   *
   * @default the corpus, else the bundled tale, which is English
   */
  text?: string | undefined;
  /**
   * Encoding of `corpus` and `text`.
   *
   * @default 'utf8'
   */
  encoding?: string | undefined;
  /**
   * The gates' activation function, for weights whose file does not say it.
   *
   * @default what scores best
   */
  gates?: GateActivation | undefined;
  /**
   * Length in characters of the windows it was trained on, each from zero state, 1 to 16,777,216.
   *
   * @default what the file says
   */
  window?: number | undefined;
  /** Ends the import, which throws the signal's reason. */
  signal?: AbortSignal | undefined;
}

/**
 * A model that was imported and proved; `saveCheckpoint` writes its checkpoint.
 *
 * @category Models of other programs
 */
export interface ImportedModel {
  /** What the file is, in words. */
  kind: string;
  checkpoint: Checkpoint;
  layout: NativeParameter[];
  /** Where the vocabulary comes from. */
  vocabularySource: string;
  proof: Proof;
  /** Lines for the user. */
  notes: string[];
}

const importChecks: Checks<ImportOptions> = {
  device: deviceChecks.device,
  threads: deviceChecks.threads,
  check: deviceChecks.check,
  onNote: deviceChecks.onNote,
  env: deviceChecks.env,
  nativeBinding: pathOf,
  vocabulary: pathOf,
  corpus: pathOf,
  text: pathOf,
  encoding: textOf,
  gates: (what, value) => choiceOf(what, value, gateActivations),
  window: (what, value) => wholeOf(what, value, 1, 1 << 24),
  signal: signalOf,
};

/**
 * Reads a model that another program trained. The file is untrusted: nothing in it is run.
 *
 * @throws CheckpointError if the file is of no known kind, is damaged, cannot be represented, or predicts no text; the message says which.
 * DataError for a vocabulary or text that cannot be used.
 * @category Models of other programs
 */
export function importModel(file: string, options: ImportOptions = {}): Promise<ImportedModel> {
  return importBy(readHdf5, file, options);
}

/** {@link importModel}, with a given reader of HDF5 files. */
export async function importBy(readHdf5: Hdf5Read, file: string, options: ImportOptions): Promise<ImportedModel> {
  pathOf('file', file);
  const checked = optionsOf<ImportOptions>('options', options, importChecks);
  const bytes = await readWhole(file);
  try {
    const found = await readForeign(bytes, file, (packed) => readHdf5(packed, checked.signal));
    return await prove(found, bytes, file, checked);
  } catch (error) {
    if (error instanceof Refusal) throw foreign(file, error.message, error);
    if (error instanceof RangeError) throw foreign(file, `there is no memory for it (${error.message})`, error);
    throw error;
  }
}

/** The most bytes of a JSON file; lists of weights take thousandths of that. */
const largestJson = 64 << 20;

/** Recognised in this order: PyTorch's zip, other zips, HDF5, PyTorch's stream, JSON. */
async function readForeign(bytes: Buffer, file: string, readHdf5: Hdf5Read): Promise<ForeignModel> {
  if (bytes.length === 0) throw new Refusal('it is empty');
  const head = bytes.toString('latin1', 0, 8);
  if (head.startsWith('PK\x03\x04')) {
    const zip = await ZipArchive.open(bytes);
    const root = await readTorchZip(zip);
    if (root !== undefined) return torchModel(root);
    if (zip.has('model.weights.h5')) return kerasArchive(zip, readHdf5);
    throw new Refusal('it is a zip archive, but neither one of PyTorch nor one of Keras');
  }
  if (isHdf5(bytes)) return kerasHdf5(bytes, readHdf5);
  if (isTorchStream(bytes)) return torchModel(readTorchStream(bytes));
  if (/^\s*[{[]/.test(head)) {
    if (bytes.length > largestJson) throw new Refusal(`it is JSON of ${bytes.length} bytes`);
    return jsonModel(bytes.toString('utf8'), file);
  }
  throw unknownFormat(bytes, head, file);
}

/** A `.keras` archive: configuration, metadata and weights. */
async function kerasArchive(zip: ZipArchive, readHdf5: Hdf5Read): Promise<ForeignModel> {
  const json = async (name: string) => parsed((await zip.read(name, 16 << 20)).toString('utf8'), name);
  const metadata = zip.has('metadata.json') ? await json('metadata.json') : undefined;
  const version = (metadata as { keras_version?: unknown } | undefined)?.keras_version;
  const { tensors } = await readHdf5(await zip.read('model.weights.h5'));
  return kerasModel({
    config: zip.has('config.json') ? await json('config.json') : undefined,
    version: typeof version === 'string' ? version : undefined,
    tensors,
    kind: 'a Keras model (.keras)',
  });
}

/** Keras' HDF5: a whole model, or weights alone. */
async function kerasHdf5(bytes: Buffer, readHdf5: Hdf5Read): Promise<ForeignModel> {
  const { tensors, attributes } = await readHdf5(bytes);
  const text = (name: string) => {
    const value = attributes[name] ?? attributes[`model_weights/${name}`];
    return typeof value === 'string' ? value : undefined;
  };
  const config = text('model_config');
  const order = attributes.layer_names ?? attributes['model_weights/layer_names'];
  return kerasModel({
    config: config === undefined ? undefined : parsed(config, 'model_config'),
    version: text('keras_version'),
    tensors,
    order: Array.isArray(order) ? order : undefined,
    kind: config === undefined ? 'Keras weights (HDF5)' : 'a Keras model (HDF5)',
  });
}

function parsed(text: string, what: string): unknown {
  try {
    return parseStrictJson(text);
  } catch (error) {
    throw new Refusal(`its ${what} is not JSON (${(error as Error).message})`, { cause: error });
  }
}

function unknownFormat(bytes: Buffer, head: string, file: string): Refusal {
  if (/^.{8}\{"/s.test(bytes.toString('latin1', 0, 10))) {
    return new Refusal(
      'it is a safetensors file: if cudnn-lstm wrote it, it can be used as it is (cudnn-lstm info shows what it holds)',
    );
  }
  if (/\.t7$/.test(file))
    return new Refusal('Torch 7 files (.t7) are not read: read it with torchfile in Python and save a state dict');
  if (head.startsWith('\x80')) {
    return new Refusal(
      'it is a pickle, but not one of torch.save; save it anew with torch.save(model.state_dict(), FILE)',
    );
  }
  return new Refusal('its content is neither PyTorch, nor Keras (HDF5, .keras), nor JSON of ml5 or TensorFlow.js');
}

function shapeOf(found: ForeignModel, gateActivation: GateActivation): ModelShape {
  return {
    vocabulary: found.vocabulary,
    layers: found.layers.length,
    hidden: found.hidden,
    input: found.input,
    embedding: found.embedding,
    dropout: found.dropout,
    ...(gateActivation === 'sigmoid' ? {} : { gateActivation }),
  };
}

/** The weights in the canonical layout. */
function flatten(found: ForeignModel, layout: readonly NativeParameter[]): Float32Array {
  const flat = new Float32Array(layoutSize(layout));
  const tensors = new Map<string, Float32Array>();
  if (found.embeddingWeights) tensors.set('embedding.weight', found.embeddingWeights);
  for (const [i, layer] of found.layers.entries()) {
    tensors.set(`lstm.weight_ih_l${i}`, layer.inputWeights);
    tensors.set(`lstm.weight_hh_l${i}`, layer.recurrentWeights);
    tensors.set(`lstm.bias_ih_l${i}`, layer.bias);
  }
  tensors.set('output.weight', found.outputWeights);
  tensors.set('output.bias', found.outputBias);
  for (const { name, offset, size } of layout) {
    const data = tensors.get(name);
    if (data?.length !== size) throw new Refusal(`'${name}' has ${data?.length ?? 0} numbers where ${size} are needed`);
    for (let i = 0; i < size; i++)
      if (!Number.isFinite(data[i])) throw new Refusal(`'${name}' holds ${data[i]} at index ${i}`);
    flat.set(data, offset);
  }
  return flat;
}

/** The ways in which the model may have been trained to read text. */
interface Readings {
  readings: Reading[];
  /** The middle of the corpus, if it was read for the readings: a second time there may be nothing left to read. */
  middle?: string;
}

/** The readings of the vocabulary that the user named, else of those in the file. */
async function readingsFor(found: ForeignModel, options: ImportOptions): Promise<Readings> {
  const size = found.vocabulary;
  const named = (symbols: readonly string[], where: string): Reading => {
    const { vocabulary, notes } = toVocabulary(symbols);
    return { where, vocabulary, normalization: normalizationFor(vocabulary), notes };
  };
  if (options.vocabulary === 'python-printable') {
    if (size !== pythonPrintable.length) {
      throw new DataError(
        `python-printable has ${pythonPrintable.length} symbols, and the model ${size}; name a file with those of the model`,
      );
    }
    return { readings: [named(pythonPrintable, "Python's string.printable")] };
  }
  if (options.vocabulary !== undefined) {
    const all = await readVocabularyFile(options.vocabulary, size);
    return { readings: all.map(({ symbols, where }) => named(symbols, where)) };
  }
  if (found.vocabularies.length > 0)
    return { readings: found.vocabularies.slice(0, 8).map(({ symbols, where }) => named(symbols, where)) };
  if (options.corpus === undefined) {
    throw new Refusal(
      `its vocabulary of ${size} symbols is not in it: name the text it was trained on, ${option({ corpus: 'FILE' })}, or its symbols in id order, ` +
        `${option({ vocabulary: 'FILE.json' })}${size === pythonPrintable.length ? ` (100 symbols may be ${option({ vocabulary: 'python-printable' })})` : ''}`,
    );
  }
  const raw = await readRaw(options.corpus, options.encoding ?? 'utf8', options.signal);
  const { readings, sizes } = readingsOfText(raw, options.corpus, size);
  if (readings.length === 0) {
    const listed = [...sizes].map(([how, count]) => `${count} (${how})`).join(', ');
    throw new DataError(
      `${options.corpus} does not have the model's ${size} symbols, but ${listed}: is it the text the model was trained on, in the right ` +
        `${option('encoding')}? Otherwise name the symbols with ${option({ vocabulary: 'FILE.json' })}`,
    );
  }
  return { readings, middle: raw.middle };
}

async function readVocabularyFile(path: string, size: number): Promise<{ symbols: string[]; where: string }[]> {
  const bytes = await readWhole(path, 64 << 20);
  try {
    if (bytes[0] === 0x80) {
      const inPickle = vocabulariesIn(new PickleReader(bytes).read(), size);
      if (inPickle.length > 0) return inPickle.map(({ symbols }) => ({ symbols, where: path }));
    } else {
      const value = parseStrictJson(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
      const symbols = symbolsOf(value, size);
      if (symbols !== undefined) return [{ symbols, where: path }];
    }
  } catch (error) {
    throw new DataError(`cannot read the vocabulary ${path}: ${(error as Error).message}`, { cause: error });
  }
  throw new DataError(
    `${path} is no vocabulary of the model's ${size} symbols: a list in id order, {"symbol": id} or {"id": "symbol"} is needed`,
  );
}

/** Makes the model, tries each reading on a piece of text, and takes the best. */
async function prove(found: ForeignModel, bytes: Buffer, file: string, checked: ImportOptions): Promise<ImportedModel> {
  if (found.vocabulary < 2 || found.vocabulary > largestVocabulary) {
    throw new Refusal(`it has ${found.vocabulary} symbols; from 2 to ${largestVocabulary} can be represented`);
  }
  const { readings, middle } = await readingsFor(found, checked);
  const layout = canonicalLayout(shapeOf(found, 'sigmoid'));
  const parameters = flatten(found, layout);
  const name = checked.text ?? checked.corpus ?? 'the bundled tale';
  const read = () =>
    readMiddle(checked.text ?? checked.corpus ?? bundledCorpusPath, checked.encoding ?? 'utf8', checked.signal);
  const text = checked.text === undefined && middle !== undefined ? middle : await read();
  const seqLength = checked.window ?? found.seqLength ?? 100;
  const target = checked.window !== undefined ? 'last' : (found.target ?? 'every');
  // Any vocabulary of its size will do: texts are encoded by each reading.
  const stand = (readings[0] as Reading).vocabulary;
  const { device, threads, nativeBinding, check, onNote, env, signal } = checked;
  const options = { device, threads, nativeBinding, check, onNote, env, signal, target, seqLength };
  if (checked.gates !== undefined && found.gateActivations.length === 1 && checked.gates !== found.gateActivations[0]) {
    throw new UsageError(`its gates are ${found.gateActivations[0]}, as the file says; leave ${option('gates')} out.`);
  }
  const tried = new Map<GateActivation, number>();
  let best: { reading: Reading; proof: Proof; shape: ModelShape } | undefined;
  for (const gates of checked.gates === undefined ? found.gateActivations : [checked.gates]) {
    const shape = shapeOf(found, gates);
    using model = await LanguageModel.create(shape, stand, options);
    nativeOf(model).write('parameters', parameters);
    for (const reading of readings) {
      const proof = await tryReading(model, text, name, reading, checked.signal).catch((error: unknown) => {
        // The weights are so large that the loss is not finite.
        if (error instanceof CudnnLstmError && error.code === 'ERR_STOPPED') return undefined;
        throw error;
      });
      if (proof !== undefined) tried.set(gates, Math.min(proof.loss, tried.get(gates) ?? Number.POSITIVE_INFINITY));
      if (proof !== undefined && (best === undefined || proof.loss < best.proof.loss)) best = { reading, proof, shape };
    }
  }
  if (best === undefined) {
    throw new Refusal(
      `${name} has too few of its characters to prove the model on; name a text like those it was trained on: ${option({ text: 'FILE' })}`,
    );
  }
  const { reading, proof, shape } = best;
  if (!(proof.loss < proof.letterLoss)) throw unproved(found, proof, reading, checked);
  const { vocabulary: _, ...modelShape } = shape;
  const metadata: CheckpointMetadata = {
    format: 'cudnn-lstm',
    formatVersion: 1,
    vocabulary: [...reading.vocabulary.symbols],
    normalization: reading.normalization,
    model: modelShape,
    configuration: {
      importedFrom: basename(file),
      importedKind: found.kind,
      importedSha256: createHash('sha256').update(bytes).digest('hex'),
      importedVocabulary: reading.where,
      importedProof: proof,
    },
    target,
    seqLength,
    epoch: 0,
    step: 0,
    version: packageVersion,
  };
  return {
    kind: found.kind,
    checkpoint: { metadata, parameters },
    layout,
    vocabularySource: reading.where,
    proof,
    notes: [
      ...found.notes,
      ...reading.notes,
      ...(checked.gates === undefined && found.gateActivations.length > 1 ? [gatesNote(tried)] : []),
    ],
  };
}

function gatesNote(tried: ReadonlyMap<GateActivation, number>): string {
  const scores = [...tried].map(([gates, loss]) => `${gates} ${loss.toFixed(4)}`);
  return `its gates were chosen by their score (${scores.join(', ')} nats per character); where two are close, name them: ${option({ gates: 'NAME' })}`;
}

function unproved(
  found: ForeignModel,
  proof: Proof,
  reading: Reading,
  options: ImportOptions,
): CheckpointError | Refusal {
  const own = options.text === undefined && options.corpus === undefined;
  const remedy = own
    ? `if its language is not English, name a text like those it was trained on: ${option({ text: 'FILE' })}`
    : `the symbols may have another order (${option({ vocabulary: 'FILE.json' })}), the text another encoding (${option('encoding')}), or windows may have been ` +
      `learned from zero state (${option('window')})`;
  return new Refusal(
    `with the vocabulary of ${reading.where} it predicts ${proof.text} at ${proof.loss.toFixed(3)} nats per character, no better than the ` +
      `${proof.letterLoss.toFixed(3)} of counting letters, so ${found.kind} and vocabulary do not belong together; ${remedy}`,
  );
}
