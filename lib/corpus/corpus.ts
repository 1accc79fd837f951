/** Reads files into one sequence of ids. */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { type Checks, choiceOf, flagOf, instanceOf, optionsOf, signalOf, textOf, wholeOf } from '../arguments';
import { Breather } from '../breather';
import { takeAllQuietly } from '../endings';
import { DataError, OptionError, UsageError } from '../errors';
import { whyUnreadable } from '../files';
import { grouped, plural } from '../numbers';
import { option } from '../wording';
import { byteNormalization, byteVocabulary } from './bytes';
import { checkEncoding, isLatin1, readHead } from './decode';
import { Encoder, SymbolCounter } from './encoder';
import { guessWide } from './guess';
import { gutenbergNote } from './gutenberg';
import type { IdSource } from './ids';
import { LineIndex } from './lines';
import { nameSome } from './names';
import type { NormalForm, Normalization } from './normalization';
import { concatenated, heldText, type Piece, type ReadOptions, streamedText } from './pieces';
import { FileSink, MemorySink } from './sinks';
import { type CorpusInput, isList, resolveSources, type Source, type Weight } from './sources';
import { spool, TemporaryFolder } from './temporary';
import { grownVocabulary, nameCharacters, unknownSymbol, Vocabulary } from './vocabulary';

export { bundledCorpusPath, type CorpusInput, type CorpusText, isList } from './sources';

/**
 * How a text is read.
 *
 * @category Texts
 */
export interface CorpusOptions {
  /**
   * Lower-case the text, each code point on its own.
   *
   * @default false
   */
  lowercase?: boolean;
  /**
   * The Unicode normal form to convert the text to.
   *
   * @default 'none'
   */
  normalize?: NormalForm | 'none';
  /**
   * Leave CR and CRLF as they are.
   *
   * @default they become LF
   */
  lineBreaks?: 'keep' | undefined;
  /**
   * Keep leading byte order marks.
   *
   * @default they are dropped
   */
  byteOrderMark?: 'keep' | undefined;
  /**
   * Encoding of the files.
   *
   * @default 'utf8'
   */
  encoding?: string;
  /**
   * `'auto'` takes what lies between Project Gutenberg's start and end lines, for each book in a text; `'keep'` takes everything.
   *
   * @default 'auto'
   */
  gutenberg?: 'auto' | 'keep';
  /**
   * Encode with this vocabulary instead of the text's own, as when a run is resumed.
   *
   * @default the text's own
   */
  vocabulary?: Vocabulary;
  /**
   * With `vocabulary`: what to do about characters that it lacks. `'add'` appends them to its symbols in the corpus's vocabulary.
   *
   * @default 'error'
   */
  unknown?: 'error' | 'skip' | 'add';
  /**
   * Read the files byte by byte: 256 symbols, no encoding, nothing left out or changed.
   *
   * @default false
   */
  bytes?: boolean;
  /**
   * Fold characters that occur fewer times than this into one unknown symbol, U+FFFD, which then also stands for every other
   * character; 1 folds none.
   *
   * @default 1
   */
  minCount?: number;
  /**
   * Index the lines, for a model of single lines; the vocabulary then has a line break even if the text has none.
   *
   * @default false
   */
  lines?: boolean;
  /**
   * Read a number after a name, as in `a.txt:2`, as how many times an epoch has that text, above 0 and at most 1,000, unless a file has
   * exactly that name.
   *
   * @default false
   */
  weights?: boolean;
  /**
   * Bytes of text above which the ids go to a temporary file and are read by position, 0 or more.
   *
   * @default 67,108,864
   */
  streamAbove?: number;
  /** Aborts the reading, which then throws the signal's reason. */
  signal?: AbortSignal;
}

/**
 * A text that has been read: ids, and what they stand for.
 *
 * @category Texts
 */
export interface Corpus {
  vocabulary: Vocabulary;
  normalization: Normalization;
  ids: IdSource;
  /** Length in characters (code points). */
  length: number;
  /** SHA-256 in hexadecimal of the normalised text as UTF-8, or of the bytes themselves. */
  sha256: string;
  sources: string[];
  /** If texts were given weights: the parts of the corpus, in order, and how many times an epoch has each. */
  parts?: readonly CorpusPart[];
  /** The non-empty lines, if asked for. */
  lines?: LineIndex;
  /** Characters left out because the given vocabulary lacks them. */
  skipped: number;
  /** Messages for the user, such as what was left out. */
  notes: string[];
  /** Frees the ids, and whatever remains of a temporary id file. */
  close(): void;
}

/**
 * A part of a corpus: the texts named by one argument, or by several arguments with the same integer weight.
 *
 * @category Texts
 */
export interface CorpusPart {
  /** Length in characters. */
  readonly length: number;
  /** How many times an epoch has it. */
  readonly weight: number;
}

/** Bytes above which a text is not held in memory: 64 MB. */
export const defaultStreamAbove = 64 << 20;

function checkUsable(length: number, own: Vocabulary | undefined, what: string): void {
  if (length === 0) throw new DataError(`${what} is empty; give a text of at least two characters`);
  if (own?.size === 1) {
    const symbol = JSON.stringify(own.symbols[0]);
    throw new DataError(`${what} has only one symbol, ${symbol}: give a text with at least two`);
  }
}

/** Sources that can be read repeatedly, and their total size. */
export async function settle(
  sources: readonly Source[],
  folder: TemporaryFolder,
  limit: number,
  signal: AbortSignal | undefined,
): Promise<{ settled: Source[]; bytes: number }> {
  const settled: Source[] = [];
  let bytes = 0;
  for (const source of sources) {
    const found =
      source.path === undefined
        ? undefined
        : await stat(source.path).catch((error: NodeJS.ErrnoException) => {
            throw new DataError(`cannot read ${source.name}: ${whyUnreadable(error)}`, { cause: error });
          });
    const whole = found?.isFile() ? { source, size: found.size } : await spool(source, folder, limit, signal);
    settled.push(whole.source);
    bytes += whole.size;
  }
  return { settled, bytes };
}

const corpusChecks: Checks<CorpusOptions> = {
  lowercase: flagOf,
  normalize: (what, value) => choiceOf(what, value, ['nfc', 'nfkc', 'none']),
  lineBreaks: (what, value) => choiceOf(what, value, ['keep']),
  byteOrderMark: (what, value) => choiceOf(what, value, ['keep']),
  encoding: textOf,
  gutenberg: (what, value) => choiceOf(what, value, ['auto', 'keep']),
  vocabulary: (what, value) => instanceOf(what, value, Vocabulary, 'a Vocabulary'),
  unknown: (what, value) => choiceOf(what, value, ['error', 'skip', 'add']),
  lines: flagOf,
  bytes: flagOf,
  weights: flagOf,
  minCount: (what, value) => wholeOf(what, value, 1),
  streamAbove: (what, value) => (value === Number.POSITIVE_INFINITY ? value : wholeOf(what, value, 0)),
  signal: signalOf,
};

/**
 * Reads the texts that `corpora` gives or names as one sequence of symbols. A text is never cut into windows here.
 * Above `streamAbove` bytes in total it is encoded piece by piece into a temporary id file, so memory does not grow with it.
 *
 * @throws DataError if a text is missing, unreadable, not in its encoding, empty or of only one symbol, or has characters that the given
 * vocabulary lacks; DiskError if there is no space for an id file; UsageError for an unknown encoding.
 * @category Texts
 */
export async function openCorpus(corpora: CorpusInput, options: CorpusOptions = {}): Promise<Corpus> {
  const given = optionsOf<CorpusOptions>('options', options, corpusChecks, 'openCorpus');
  // Text in memory is already decoded.
  const checked: CorpusOptions = isList(corpora) ? given : { ...given, encoding: 'utf8' };
  checkEncoding(checked.encoding ?? 'utf8');
  const { vocabulary, unknown, minCount = 1 } = checked;
  if (minCount > 1 && unknown === 'add' && vocabulary && vocabulary.unknownId === undefined)
    throw new OptionError('minCount', 'must be 1 where the vocabulary that is added to has no unknown symbol.');
  const notes: string[] = [];
  const sources = await resolveSources(corpora, checked.signal, (note) => notes.push(note), checked.weights);
  const folder = new TemporaryFolder();
  try {
    return await readCorpus(sources, folder, checked, notes);
  } catch (error) {
    await folder.remove();
    throw error;
  }
}

async function readCorpus(
  sources: readonly Source[],
  folder: TemporaryFolder,
  options: CorpusOptions,
  notes: string[],
): Promise<Corpus> {
  const what = sources.length === 1 ? (sources[0] as Source).name : `the corpus (${grouped(sources.length)} files)`;
  const normalization = normalizationOf(options);
  const { bytes: ofBytes = false, minCount = 1 } = options;
  const limit = options.streamAbove ?? defaultStreamAbove;
  const { settled, bytes } = await settle(sources, folder, limit, options.signal);
  const streamed = bytes > limit;
  const frames = new Map<string, string | undefined>();
  const reading: ReadOptions = {
    normalization,
    encoding: options.encoding ?? 'utf8',
    gutenberg: ofBytes ? 'keep' : (options.gutenberg ?? 'auto'),
    signal: options.signal,
    onFound: ({ name }, books) => frames.set(name, gutenbergNote(name, books)),
  };
  const read = () => concatenated(settled, (source) => (streamed ? streamedText : heldText)(source, reading), ofBytes);
  const kept: Piece[] = [];
  if (!streamed) for await (const piece of read()) kept.push(piece);
  const pieces = () => paced(streamed ? read() : kept, options.signal);

  let vocabulary = options.vocabulary;
  const counter = new SymbolCounter();
  const counted = vocabulary === undefined || options.unknown === 'add';
  if (vocabulary === undefined || counted) {
    for await (const { text } of pieces()) counter.count(text);
    checkUsable(counter.length, undefined, what);
    checkUsable(counter.length, counter.vocabulary(), what);
    const always = options.lines ? ['\n'] : [];
    if (vocabulary === undefined && minCount > 1) checkFolding(minCount, counter.mostFrequent(always));
    const all = ofBytes ? byteVocabulary() : counter.vocabulary(minCount, always);
    vocabulary = vocabulary ? grownVocabulary(vocabulary, all.symbols) : all;
  }
  const encoder = new Encoder(vocabulary, options.unknown === 'skip');
  const hash = createHash('sha256');
  const capacity = kept.reduce((sum, { text }) => sum + text.length, 0);
  const begun: { at: number; share: Weight | undefined }[] = [];
  const sink = streamed ? new FileSink(encoder, await folder.create('ids')) : new MemorySink(encoder, capacity);
  try {
    for await (const { text, begins } of pieces()) {
      if (begins) {
        encoder.begin(begins.name);
        begun.push({ at: sink.length, share: begins.share });
      }
      hash.update(text, ofBytes ? 'latin1' : 'utf8');
      await sink.add(text);
    }
    encoder.finish();
  } catch (error) {
    await takeAllQuietly([() => sink.abandon()]);
    throw error;
  }
  const ids = await sink.finish();
  try {
    if (ids.length === 0) {
      if (encoder.skipped > 0)
        throw new DataError(`${what} has no character that the model knows; give a text like those it was trained on`);
      checkUsable(0, undefined, what);
    }
    const parts = partsOf(begun, ids.length);
    if (parts) notes.push(weightsNote(settled));
    for (const note of frames.values()) if (note !== undefined) notes.push(note);
    notes.push(...encoder.notes());
    if (encoder.folded > 0)
      notes.push(foldedNote(encoder.folded, counted ? counter.rarer(minCount).symbols : undefined));
    if (counted && !ofBytes) notes.push(...(await oddities(what, settled, vocabulary, counter, options)));
    const breakId = vocabulary.idOf('\n');
    const lines = options.lines && breakId !== undefined ? await LineIndex.find(ids, breakId) : undefined;
    if (lines && lines.emptyLines > 0) {
      notes.push(`${plural(lines.emptyLines, 'empty line')} left out`);
    }
    if (streamed)
      notes.push(`${grouped(ids.length)} characters are read from a temporary id file in ${tmpdir()}, not from memory`);
    return {
      vocabulary,
      normalization,
      ids,
      length: ids.length,
      ...(parts ? { parts } : {}),
      ...(lines ? { lines } : {}),
      sha256: hash.digest('hex'),
      sources: sources.map(({ name }) => name),
      skipped: encoder.skipped,
      notes,
      close: () => ids.close(),
    };
  } catch (error) {
    // The open file no longer has a name by which anything else could remove it.
    await takeAllQuietly([() => ids.close()]);
    throw error;
  }
}

/**
 * How long each part is and how many times an epoch has it; undefined if it has each once. Texts of the same argument are one part, and
 * so are neighbours with the same integer weight.
 */
function partsOf(
  begun: readonly { at: number; share: Weight | undefined }[],
  length: number,
): CorpusPart[] | undefined {
  const parts: { length: number; weight: number; share: Weight | undefined }[] = [];
  for (const [i, { at, share }] of begun.entries()) {
    const part = { length: (begun[i + 1]?.at ?? length) - at, weight: share?.weight ?? 1, share };
    const last = parts.at(-1);
    if (part.length === 0) continue;
    if (last?.weight === part.weight && (last.share === share || Number.isInteger(part.weight)))
      last.length += part.length;
    else parts.push(part);
  }
  return parts.some(({ weight }) => weight !== 1) ? parts.map(({ length, weight }) => ({ length, weight })) : undefined;
}

/** `an epoch has a.txt twice, b.txt once` */
function weightsNote(sources: readonly Source[]): string {
  const shares = [...new Set(sources.map(({ share }) => share))];
  const times = ({ weight }: Weight) => (weight === 1 ? 'once' : weight === 2 ? 'twice' : `${weight} times`);
  const said = shares.map((share) => {
    const names = sources.filter((source) => source.share === share).map(({ name }) => name);
    return `${nameSome(names)} ${times(share ?? { weight: 1 })}`;
  });
  return `an epoch has ${nameSome(said)}`;
}

/** @throws UsageError for options that cannot apply to bytes. */
function normalizationOf(options: CorpusOptions): Normalization {
  const form = options.normalize === 'none' ? undefined : options.normalize;
  if (options.bytes) {
    if (options.lowercase || form || (options.minCount ?? 1) > 1)
      throw new UsageError('bytes are taken as they are: not lower-cased, in no normal form, none folded.');
    return { ...byteNormalization };
  }
  return {
    lowercase: options.lowercase ?? false,
    ...(form ? { form } : {}),
    ...(options.lineBreaks ? { lineBreaks: options.lineBreaks } : {}),
    ...(options.byteOrderMark ? { byteOrderMark: options.byteOrderMark } : {}),
    ...unknownOf(options),
  };
}

/** @throws OptionError if every character would become the unknown symbol, which says nothing about the text and is never written. */
function checkFolding(minCount: number, most: number): void {
  if (most === 0 || most >= minCount) return;
  throw new OptionError(
    'minCount',
    `must be at most ${grouped(most)}, which is how often the most frequent character comes, not ${grouped(minCount)}.`,
  );
}

function unknownOf({ vocabulary, minCount = 1 }: CorpusOptions): Pick<Normalization, 'unknown'> {
  if (vocabulary === undefined) return minCount > 1 ? { unknown: unknownSymbol } : {};
  return vocabulary.unknownId === undefined ? {} : { unknown: vocabulary.symbols[vocabulary.unknownId] };
}

/** @param symbols How many distinct ones; undefined if they were not counted. */
function foldedNote(characters: number, symbols: number | undefined): string {
  return symbols === undefined
    ? `${plural(characters, 'character')} that the model does not know read as its unknown symbol`
    : `${plural(symbols, 'rare symbol')} (${plural(characters, 'character')}) folded into one unknown symbol`;
}

/** Yields the pieces; between them the event loop runs and an abort takes effect. */
async function* paced(
  pieces: Iterable<Piece> | AsyncIterable<Piece>,
  signal: AbortSignal | undefined,
): AsyncGenerator<Piece> {
  const breather = new Breather();
  for await (const piece of pieces) {
    yield piece;
    if (breather.due()) await breather.rest();
    signal?.throwIfAborted();
  }
}

/** Notes on what a text's own symbols say about how it was read. */
async function oddities(
  what: string,
  sources: readonly Source[],
  vocabulary: Vocabulary,
  counter: SymbolCounter,
  { encoding = 'utf8', signal }: CorpusOptions,
): Promise<string[]> {
  const notes: string[] = [];
  if (vocabulary.idOf('\0') !== undefined) notes.push(await nulNote(what, sources, signal));
  const controls = vocabulary.symbols.filter((symbol) => /[\x80-\x84\x86-\x9f]/.test(symbol));
  if (controls.length > 0) {
    const cause = isLatin1(encoding)
      ? `it may be in Windows-1252: ${option({ encoding: 'windows-1252' })}`
      : 'which stand where Windows-1252 was taken for latin1 when the text was made';
    notes.push(`${what} has control characters of C1, ${nameCharacters(controls)}: ${cause}`);
  }
  const both = counter.inBothForms;
  if (both.length > 0) {
    notes.push(
      `${what} has ${nameCharacters(both)} both as one character and as a letter with a mark, which are different symbols: ` +
        `${option({ normalize: 'nfc' })} makes them the same`,
    );
  }
  return notes;
}

/** The note about NUL characters, with the encoding of the first text that has some and looks like UTF-16 or UTF-32. */
async function nulNote(what: string, sources: readonly Source[], signal: AbortSignal | undefined): Promise<string> {
  for (const source of sources) {
    const head = await readHead(source, signal);
    const wide = head.includes(0) ? guessWide(head) : undefined;
    if (wide !== undefined) return `${what} has NUL characters: it looks like ${wide} (${option({ encoding: wide })})`;
  }
  return `${what} has NUL characters: it may not be a text`;
}
