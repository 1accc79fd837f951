/** From files to one sequence of ids. */
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdtemp, open, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DataError, DiskError } from '../errors';
import { checkEncoding, readText } from './decode';
import { stripGutenberg } from './gutenberg';
import { bytesPerId, FileIds, type IdArray, type IdSource, MemoryIds } from './ids';
import { type Normalization, StreamNormalizer } from './normalization';
import { resolveSources, type Source } from './sources';
import { Vocabulary } from './vocabulary';

export { bundledCorpusPath } from './sources';

export interface CorpusOptions {
  lowercase?: boolean;
  /** Of the files; 'utf8' unless said otherwise. */
  encoding?: string;
  /** 'auto' takes what stands between Project Gutenberg's two markers, where both are there once. */
  gutenberg?: 'auto' | 'keep';
  /** Encode with this vocabulary instead of the text's own, as when a run is resumed. */
  vocabulary?: Vocabulary;
  /** With `vocabulary`: what to do with characters it does not hold. */
  unknown?: 'error' | 'skip';
  /** Bytes above which the ids go to a temporary file and are read by position. */
  streamAbove?: number;
  signal?: AbortSignal;
}

export interface Corpus {
  vocabulary: Vocabulary;
  normalization: Normalization;
  ids: IdSource;
  /** In characters (code points). */
  length: number;
  /** Of the normalised text as UTF-8. */
  sha256: string;
  sources: string[];
  /** Lines worth telling the user. */
  notes: string[];
  /** Frees the ids; a temporary id file is removed. */
  close(): void;
}

/** 64 MB. */
const defaultStreamAbove = 64 << 20;

const unseen = -1;

/** The texts of all sources, normalised, one after another; a newline goes between two where the first does not end in one. */
async function* normalizedText(
  sources: readonly Source[],
  normalization: Normalization,
  o: Required<Pick<CorpusOptions, 'encoding'>> & { signal: AbortSignal | undefined },
) {
  let last = '\n';
  for (const [index, source] of sources.entries()) {
    if (index > 0 && last !== '\n') yield '\n';
    const normalizer = new StreamNormalizer(normalization);
    for await (const piece of readText(source, o.encoding, o.signal)) {
      const text = normalizer.push(piece);
      if (text !== '') {
        last = text.slice(-1);
        yield text;
      }
    }
    const rest = normalizer.end();
    if (rest !== '') {
      last = rest.slice(-1);
      yield rest;
    }
  }
}

/** Ids by code point: a table for the first plane, a map above it. */
class Encoder {
  private readonly table = new Int32Array(65_536).fill(unseen);
  private readonly unknown = new Map<string, number>();
  private position = 0;

  constructor(
    private readonly vocabulary: Vocabulary,
    private readonly skip: boolean,
  ) {
    for (const [id, symbol] of vocabulary.symbols.entries())
      if (symbol.length === 1) this.table[symbol.charCodeAt(0)] = id;
  }

  /** Ids of a piece that splits no surrogate pair, into `out`; returns how many. */
  encode(text: string, out: IdArray, at: number): number {
    const begin = at;
    for (let i = 0; i < text.length; i++) {
      let id = this.table[text.charCodeAt(i)] as number;
      if (id === unseen) {
        const symbol = String.fromCodePoint(text.codePointAt(i) as number);
        if (symbol.length === 2) i++;
        id = this.vocabulary.idOf(symbol) ?? unseen;
        if (id === unseen) {
          if (!this.unknown.has(symbol) && this.unknown.size < 1000) this.unknown.set(symbol, this.position);
          this.position++;
          continue;
        }
      }
      this.position++;
      out[at++] = id;
    }
    return at - begin;
  }

  /** @throws DataError naming what was not in the vocabulary, unless it is to be skipped. */
  finish(what: string): void {
    if (this.skip || this.unknown.size === 0) return;
    this.vocabulary.encode([...this.unknown.keys()].join(''), { what });
  }
}

class SymbolCounter {
  private readonly seen = new Uint8Array(65_536);
  private readonly above = new Set<string>();
  /** Code points counted. */
  length = 0;

  count(text: string): void {
    for (let i = 0; i < text.length; i++) {
      const unit = text.charCodeAt(i);
      if (unit >= 0xd800 && unit <= 0xdbff) {
        this.above.add(String.fromCodePoint(text.codePointAt(i) as number));
        i++;
      } else {
        this.seen[unit] = 1;
      }
      this.length++;
    }
  }

  vocabulary(): Vocabulary {
    const symbols = [...this.above];
    for (let unit = 0; unit < this.seen.length; unit++)
      if (this.seen[unit] === 1) symbols.push(String.fromCharCode(unit));
    return Vocabulary.sorted(symbols);
  }
}

function makeIds(vocabulary: Vocabulary, length: number): IdArray {
  return bytesPerId(vocabulary.size) === 1 ? new Uint8Array(length) : new Uint16Array(length);
}

function checkUsable(length: number, vocabulary: Vocabulary | undefined, what: string): void {
  if (length === 0) throw new DataError(`${what} is empty: there is nothing to train on`);
  if (vocabulary !== undefined && vocabulary.size < 2) {
    const symbol = JSON.stringify(vocabulary.symbols[0]);
    throw new DataError(`${what} has only one symbol, ${symbol}: there is nothing to learn from it`);
  }
}

/** Standard input can be read once, and a streamed text is read twice: it is copied to a file. */
async function spool(source: Source, directory: string, signal: AbortSignal | undefined): Promise<Source> {
  const path = join(directory, 'stdin');
  const file = createWriteStream(path);
  for await (const piece of process.stdin) {
    signal?.throwIfAborted();
    if (!file.write(piece)) await new Promise<void>((resolve) => file.once('drain', () => resolve()));
  }
  await new Promise<void>((resolve, reject) => {
    file.on('error', reject);
    file.end(resolve);
  });
  return { ...source, path };
}

async function openInMemory(
  sources: readonly Source[],
  normalization: Normalization,
  o: CorpusOptions,
  what: string,
): Promise<Corpus> {
  const notes: string[] = [];
  const texts: string[] = [];
  for (const source of sources) {
    const pieces: string[] = [];
    for await (const piece of normalizedText(
      [source],
      { lowercase: false },
      { encoding: o.encoding ?? 'utf8', signal: o.signal },
    )) {
      pieces.push(piece);
    }
    let text = pieces.join('');
    if (o.gutenberg !== 'keep') {
      const book = stripGutenberg(text);
      if (book !== undefined) {
        notes.push(
          `${source.name}: Project Gutenberg's header and footer left out (--gutenberg keep to train on them)`,
        );
        text = book;
      }
    }
    if (texts.length > 0 && !(texts[texts.length - 1] as string).endsWith('\n')) texts.push('\n');
    if (text !== '') texts.push(text);
  }
  const normalizer = new StreamNormalizer(normalization);
  const text = normalizer.push(texts.join('')) + normalizer.end();
  const counter = new SymbolCounter();
  counter.count(text);
  checkUsable(counter.length, undefined, what);
  const vocabulary = o.vocabulary ?? counter.vocabulary();
  if (o.vocabulary === undefined) checkUsable(counter.length, vocabulary, what);
  const encoder = new Encoder(vocabulary, o.unknown === 'skip');
  const all = makeIds(vocabulary, counter.length);
  const length = encoder.encode(text, all, 0);
  encoder.finish(what);
  checkUsable(length, undefined, what);
  const ids = new MemoryIds(all.subarray(0, length));
  const sha256 = createHash('sha256').update(text, 'utf8').digest('hex');
  return {
    vocabulary,
    normalization,
    ids,
    length,
    sha256,
    sources: sources.map((s) => s.name),
    notes,
    close: () => ids.close(),
  };
}

async function openStreamed(
  sources: readonly Source[],
  normalization: Normalization,
  o: CorpusOptions,
  what: string,
): Promise<Corpus> {
  const directory = await mkdtemp(join(tmpdir(), 'cudnn-lstm-ids-'));
  try {
    const files: Source[] = [];
    for (const source of sources)
      files.push(source.path === undefined ? await spool(source, directory, o.signal) : source);
    const reading = { encoding: o.encoding ?? 'utf8', signal: o.signal };
    let vocabulary = o.vocabulary;
    if (vocabulary === undefined) {
      const counter = new SymbolCounter();
      for await (const text of normalizedText(files, normalization, reading)) counter.count(text);
      checkUsable(counter.length, counter.length > 0 ? counter.vocabulary() : undefined, what);
      vocabulary = counter.vocabulary();
    }
    const encoder = new Encoder(vocabulary, o.unknown === 'skip');
    const hash = createHash('sha256');
    const path = join(directory, 'ids');
    const file = await open(path, 'w');
    let length = 0;
    try {
      for await (const text of normalizedText(files, normalization, reading)) {
        hash.update(text, 'utf8');
        const piece = makeIds(vocabulary, text.length);
        const count = encoder.encode(text, piece, 0);
        length += count;
        await file.writeFile(new Uint8Array(piece.buffer, 0, count * piece.BYTES_PER_ELEMENT));
      }
    } finally {
      await file.close();
    }
    encoder.finish(what);
    checkUsable(length, undefined, what);
    const ids = new FileIds(path, length, bytesPerId(vocabulary.size), true);
    const notes = [`${length} characters are read from a temporary id file in ${tmpdir()}, not from memory`];
    return {
      vocabulary,
      normalization,
      ids,
      length,
      sha256: hash.digest('hex'),
      sources: sources.map((s) => s.name),
      notes,
      close: () => ids.close(),
    };
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOSPC' || code === 'EDQUOT') {
      throw new DiskError(`no space for the id file in ${tmpdir()}: free some, or set TMPDIR to a larger disk`, {
        cause: error,
      });
    }
    throw error;
  }
}

/**
 * Reads the texts that `corpora` names (see resolveSources) as one sequence of symbols. A text is never cut into windows here.
 * Above `streamAbove` bytes in all it is encoded piece by piece into a temporary id file, so memory does not grow with it; there
 * Gutenberg's markers are not looked for.
 *
 * @throws DataError if a text is missing, unreadable, not in its encoding, empty or of one symbol; DiskError without space.
 */
export async function openCorpus(corpora: readonly string[], o: CorpusOptions = {}): Promise<Corpus> {
  checkEncoding(o.encoding ?? 'utf8');
  const sources = await resolveSources(corpora, o.signal);
  const what = sources.length === 1 ? (sources[0] as Source).name : `the corpus (${sources.length} files)`;
  const normalization: Normalization = { lowercase: o.lowercase ?? false };
  let bytes = 0;
  for (const source of sources) {
    if (source.path === undefined) continue;
    const found = await stat(source.path).catch((error: NodeJS.ErrnoException) => {
      throw new DataError(`cannot read ${source.name}: ${error.message}`, { cause: error });
    });
    // A pipe's size is not known before it is read: it is taken for a small text.
    bytes += found.size;
  }
  const streamed = bytes > (o.streamAbove ?? defaultStreamAbove);
  return streamed ? openStreamed(sources, normalization, o, what) : openInMemory(sources, normalization, o, what);
}
