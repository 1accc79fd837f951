/** `sample`: prints text that a model writes. */
import { createHash, randomInt } from 'node:crypto';
import { Command, Option } from 'commander';
import { loadKnownLines } from '../checkpoint/known-lines';
import { fromByteString, readUtf8, toByteString } from '../corpus/bytes';
import { KnownLines } from '../corpus/known-lines';
import { TextIndex } from '../corpus/text-index';
import { eachDrawRule } from '../device/draw-rules';
import { DataError, exitCodes, UsageError } from '../errors';
import type { LanguageModel } from '../model';
import { grouped } from '../numbers';
import { copyLines, findCopies, mostChecked } from '../sampling/copies';
import type { GeneratedPiece } from '../sampling/generate';
import { checkGeneration, checkSamplingOptions, type GenerateOptions } from '../sampling/options';
import { type OpenTextOptions, openText, readLines } from '../scoring/text';
import { flagOf } from '../wording';
import {
  abortOnSignals,
  addModelOptions,
  type CommandIo,
  type ModelCommandOptions,
  numberOption,
  parseArguments,
  processIo,
  repeatable,
} from './command';
import { interact } from './interactive';
import { loadModels } from './load-model';
import { bytePrinter, printJson as printJsonLine, printText as printPlain, say } from './output';
import { promptText, readPrompt } from './prompt-file';
import { TextPrinter } from './sample-printer';

interface SampleOptions extends Omit<GenerateOptions, 'signal' | 'stop' | 'prompt' | 'maxCopy'>, ModelCommandOptions {
  prompt?: string;
  stop?: string[];
  promptFile?: string;
  corpus?: string;
  count?: number;
  lines?: number;
  novel?: boolean;
  notIn?: string;
  bestOf?: number;
  maxCopy?: number;
  corpusCheck?: string;
  interactive?: boolean;
  session?: string;
  echo?: boolean;
  separator?: string;
  json?: boolean;
}

/** What each way of writing needs. */
interface Job {
  model: LanguageModel;
  checkpoints: readonly string[];
  options: SampleOptions;
  /** How the text is drawn; the prompt is separate. */
  drawing: Omit<GenerateOptions, 'prompt' | 'maxCopy' | 'signal'>;
  /** For a model of bytes, bytes unless it was typed. */
  prompt: string | Uint8Array;
  seed: number;
  signal: AbortSignal;
  io: CommandIo;
}

/** The command; see `sample --help`. */
export async function sampleCommand(argv: string[], io: CommandIo = processIo): Promise<number> {
  const command = parseArguments(syntax(), argv);
  const options = command.opts<SampleOptions>();
  // Before the checkpoint is read, so that a wrong option does not wait for it.
  const { seed } = checkSamplingOptions({ ...options, seed: options.seed ?? randomInt(2 ** 32) });
  const drawing = drawingOf(options);
  checkGeneration(drawing, options.count ?? 1, 0);
  checkLines(options);
  checkCopies(options);
  checkInteractive(options);
  if ([options.prompt, options.promptFile, options.corpus].filter((given) => given !== undefined).length > 1) {
    throw new UsageError('--prompt, --prompt-file and --corpus all say what to continue; give one of them.');
  }

  using interrupt = abortOnSignals(io);
  const { signal } = interrupt;
  // Also before the checkpoint: a pipe may have to be read first.
  const file = options.promptFile === undefined ? undefined : await readPrompt(options.promptFile, signal);
  const checkpoints = command.args;
  using loaded = await loadModels(checkpoints, options, signal, io);
  const { model } = loaded;
  let prompt: string | Uint8Array = options.prompt ?? '';
  if (file !== undefined) prompt = model.ofBytes ? file : promptText(file, options.promptFile as string);
  say(io.stderr, `seed: ${seed}`);
  if (options.corpus !== undefined) {
    const window = await randomWindow(model, options.corpus, seed, { unknown: options.unknown, signal }, io);
    prompt = model.ofBytes ? fromByteString(window) : window;
    say(io.stderr, `prompt: ${JSON.stringify(window)}`);
  }

  const job: Job = { model, checkpoints, options, drawing, prompt, seed, signal, io };
  if (options.interactive) await converse(job);
  else if (options.lines !== undefined) await writeLines(job, options.lines);
  else await writeTexts(job);
  return exitCodes.ok;
}

/** The options that say how each character is drawn and how a text ends. */
function drawingOf(options: SampleOptions): Job['drawing'] {
  const {
    prompt: _prompt,
    promptFile: _promptFile,
    corpus: _corpus,
    count: _count,
    lines: _lines,
    novel: _novel,
    notIn: _notIn,
    bestOf: _bestOf,
    maxCopy: _maxCopy,
    corpusCheck: _corpusCheck,
    interactive: _interactive,
    session: _session,
    echo: _echo,
    separator: _separator,
    json: _json,
    device: _device,
    threads: _threads,
    check: _check,
    weights: _weights,
    ...drawing
  } = options;
  return drawing;
}

/** Writes interactively. */
async function converse({ model, checkpoints, options, drawing, prompt, seed, signal, io }: Job): Promise<void> {
  const { unknown, window: _window, length = 60, ...rules } = drawing;
  const { session: file, count = 3 } = options;
  await interact(
    model,
    {
      ...{ checkpoints, file, unknown, signal, count },
      prompt: typeof prompt === 'string' ? prompt : '',
      drawing: { ...rules, length, seed },
    },
    io,
  );
}

/** Writes whole lines. */
async function writeLines(
  { model, checkpoints, options, drawing, prompt, seed, signal, io }: Job,
  count: number,
): Promise<void> {
  const known = await knownTo(model, checkpoints, options, signal, io);
  const { stop: _stop, keepStop: _keep, ...each } = drawing;
  const begun = typeof prompt === 'string' ? prompt.replace(/\n$/, '') : '';
  const request = { ...each, prompt: begun, seed, known, signal };
  await printLines(model.generateLines(count, request), { seed, prompt: begun }, options.json === true, io);
}

/** Writes one text or several, and reports how much of them is in a corpus. */
async function writeTexts({ model, options, drawing, prompt, seed, signal, io }: Job): Promise<void> {
  const { count = 1, bestOf, maxCopy: mostCopied, corpusCheck, echo, separator = '--------', json } = options;
  const { ofBytes } = model;
  if (ofBytes && (bestOf ?? corpusCheck ?? options.only ?? options.pattern) !== undefined)
    throw new UsageError(
      '--best-of, --corpus-check, --max-copy, --only and --pattern are for models of characters, not of bytes.',
    );
  // Opened once, before anything is written: it may be standard input.
  using corpus =
    corpusCheck === undefined ? undefined : disposable(await openText(model, corpusCheck, { unknown: 'add', signal }));
  for (const note of corpus?.notes ?? []) say(io.stderr, note);
  const maxCopy =
    corpus && mostCopied !== undefined
      ? { index: await TextIndex.of(corpus.ids, signal), length: mostCopied }
      : undefined;
  const request = { ...drawing, prompt, seed, maxCopy, signal };
  const texts = Array.from({ length: count }, () => '');
  const drawn = bestOf === undefined ? begin(model, count, request) : best(model, bestOf, request, io);
  const pieces = corpus ? remembered(drawn, texts) : drawn;
  const shown = typeof prompt === 'string' ? prompt : readUtf8(toByteString(prompt));
  if (json) {
    await printJson(pieces, count, { seed, prompt: shown }, io);
  } else if (ofBytes) {
    const before = typeof prompt === 'string' ? model.normalize(prompt) : toByteString(prompt);
    // A file of bytes gets no final line break.
    const end = (io.stdout as NodeJS.WriteStream).isTTY || count > 1 ? '\n' : '';
    const printer = new TextPrinter(bytePrinter(io.stdout), count, separator, echo ? before : '', end);
    await printText(asByteStrings(pieces), printer);
  } else {
    const print = (text: string) => printPlain(io.stdout, text);
    await printText(pieces, new TextPrinter(print, count, separator, echo ? shown : ''));
  }
  if (corpus) {
    const encoded = texts.map((each) => model.vocabulary.encode(each));
    for (const line of copyLines(await findCopies(encoded, corpus.ids, signal), texts)) say(io.stderr, line);
  }
}

/** Pieces from a model of bytes with their bytes as the text, each byte as the character of that number. */
async function* asByteStrings(pieces: AsyncIterable<GeneratedPiece>): AsyncGenerator<GeneratedPiece> {
  for await (const { bytes, ...piece } of pieces) yield { ...piece, text: bytes ? toByteString(bytes) : piece.text };
}

/** @throws UsageError for options that do not go together. */
function checkCopies(options: SampleOptions): void {
  const { lines, bestOf, count, maxCopy, corpusCheck, only, pattern, length = 500 } = options;
  if (maxCopy !== undefined && corpusCheck === undefined) {
    throw new UsageError('--max-copy must know what is not to be copied: give --corpus-check FILE, too.');
  }
  if (maxCopy !== undefined && maxCopy < 1)
    throw new UsageError(`--max-copy must be a whole number from 1, not ${maxCopy}.`);
  if (bestOf !== undefined && (bestOf < 1 || bestOf > 4096))
    throw new UsageError(`--best-of must be a whole number from 1 to 4,096, not ${bestOf}.`);
  if (bestOf !== undefined && count !== undefined)
    throw new UsageError('--best-of writes one text: leave --count out.');
  if (lines !== undefined && [bestOf, corpusCheck, only, pattern].some((given) => given !== undefined))
    throw new UsageError('--lines goes without --best-of, --corpus-check, --max-copy, --only and --pattern.');
  if (corpusCheck !== undefined && length * (count ?? 1) > mostChecked)
    throw new UsageError(
      `--corpus-check looks at ${grouped(mostChecked)} characters at most: lower --length or --count.`,
    );
}

/** @throws UsageError for options that do not go together. */
function checkInteractive(options: SampleOptions): void {
  const { interactive, session, lines, bestOf, json, corpusCheck, corpus, separator, echo, window, promptFile } =
    options;
  if (!interactive) {
    if (session !== undefined) throw new UsageError('--session goes with --interactive.');
    return;
  }
  const others = {
    '--lines': lines,
    '--best-of': bestOf,
    '--json': json,
    '--corpus-check': corpusCheck,
    '--corpus': corpus,
    '--separator': separator,
    '--echo': echo,
    '--window': window,
  };
  const [other] = Object.entries(others).find(([, value]) => value !== undefined) ?? [];
  if (other !== undefined) throw new UsageError(`--interactive goes without ${other}.`);
  if (promptFile === '-')
    throw new UsageError('--interactive reads what is typed from standard input: give --prompt-file a file.');
}

/** Draws several texts and yields the likeliest as a single piece. */
async function* best(
  model: LanguageModel,
  count: number,
  request: GenerateOptions,
  io: CommandIo,
): AsyncGenerator<GeneratedPiece> {
  const { text, bitsPerCharacter, finished } = await model.generateBest(count, request);
  say(io.stderr, `best of ${count}: ${bitsPerCharacter.toFixed(3)} bits/char`);
  yield { stream: 0, text, finished };
}

async function* remembered(pieces: AsyncIterable<GeneratedPiece>, texts: string[]): AsyncGenerator<GeneratedPiece> {
  for await (const piece of pieces) {
    texts[piece.stream] += piece.text;
    yield piece;
  }
}

function disposable<T extends { close(): void }>(text: T): T & Disposable {
  return { ...text, [Symbol.dispose]: () => text.close() };
}

/** @throws UsageError for options that do not go together. */
function checkLines(options: SampleOptions): void {
  const { lines, novel, notIn, count, stop, keepStop, separator, corpus } = options;
  if (lines === undefined) {
    if (novel || notIn !== undefined) throw new UsageError('--novel and --not-in go with --lines.');
    return;
  }
  if (lines < 1) throw new UsageError(`--lines must be a whole number from 1, not ${lines}.`);
  const others = {
    '--count': count,
    '--stop': stop,
    '--keep-stop': keepStop,
    '--until-lines': options.untilLines,
    '--until-sentences': options.untilSentences,
    '--separator': separator,
    '--corpus': corpus,
  };
  const [other] = Object.entries(others).find(([, value]) => value !== undefined) ?? [];
  if (other !== undefined)
    throw new UsageError(`--lines writes whole lines, each on one of its own; it goes without ${other}.`);
}

/** The lines not to write: those of a text, or of the model's own corpus. */
async function knownTo(
  model: LanguageModel,
  checkpoints: readonly string[],
  { novel, notIn }: SampleOptions,
  signal: AbortSignal,
  io: CommandIo,
): Promise<KnownLines | undefined> {
  if (notIn === undefined && novel && checkpoints.length > 1)
    throw new UsageError('--novel knows the lines of one checkpoint; for several name the text: --not-in FILE.');
  if (notIn === undefined) return novel ? await loadKnownLines(checkpoints[0] as string, model.metadata) : undefined;
  return await KnownLines.of(
    readLines(model, notIn, { signal }, (note) => say(io.stderr, note)),
    signal,
  );
}

async function printLines(
  lines: AsyncIterable<string>,
  common: { seed: number; prompt: string },
  json: boolean,
  io: CommandIo,
): Promise<void> {
  let number = 0;
  for await (const text of lines) {
    number++;
    if (json) await printJsonLine(io.stdout, { line: number, ...common, text });
    else await printPlain(io.stdout, `${text}\n`);
  }
}

/** Starts the generation; if a text spells a line break `\\n`, the error says how a shell writes one. */
function begin(model: LanguageModel, count: number, options: GenerateOptions): AsyncIterable<GeneratedPiece> {
  try {
    return model.generateMany(count, options);
  } catch (error) {
    const texts = [options.prompt ?? '', ...[options.stop ?? []].flat()];
    const escaped =
      texts.some((text) => typeof text === 'string' && /\\[nt]/.test(text)) &&
      model.vocabulary.idOf('\\') === undefined;
    if (!(error instanceof DataError) || !escaped) throw error;
    const hint = "a line break is written $'\\n' in bash and zsh, or stands in a --prompt-file";
    throw new DataError(`${error.message}; ${hint}`, { cause: error });
  }
}

async function printText(pieces: AsyncIterable<GeneratedPiece>, printer: TextPrinter): Promise<void> {
  try {
    for await (const piece of pieces) await printer.push(piece);
  } catch (error) {
    await printer.interrupt();
    throw error;
  }
}

/** One object per text, in the order in which they finish. */
async function printJson(
  pieces: AsyncIterable<GeneratedPiece>,
  count: number,
  common: { seed: number; prompt: string },
  io: CommandIo,
): Promise<void> {
  const texts = Array.from({ length: count }, () => '');
  const whole = Array.from({ length: count }, (): Uint8Array[] => []);
  for await (const { stream, text, bytes, finished } of pieces) {
    texts[stream] += text;
    if (bytes) whole[stream]?.push(bytes);
    if (!finished) continue;
    const raw = bytes ? { base64: Buffer.concat(whole[stream] as Uint8Array[]).toString('base64') } : {};
    await printJsonLine(io.stdout, { sample: stream, ...common, text: texts[stream], ...raw, finished });
  }
}

/** A piece of the corpus as long as the sequences that the model was trained on, at a place chosen by the seed. */
async function randomWindow(
  model: LanguageModel,
  source: string,
  seed: number,
  options: OpenTextOptions,
  io: CommandIo,
): Promise<string> {
  const text = await openText(model, source, options);
  try {
    for (const note of text.notes) say(io.stderr, note);
    const length = Math.min(model.metadata.seqLength, text.ids.length);
    const hash = createHash('sha256').update(`seed window ${seed}`).digest();
    const start = Number(hash.readBigUInt64BE() % BigInt(text.ids.length - length + 1));
    return model.vocabulary.decode(Array.from(text.ids.read(start, length)));
  } finally {
    text.close();
  }
}

function syntax(): Command {
  const whole = (name: string) => numberOption(name, { integer: true });
  const command = new Command('sample')
    .description('Write text with a model. The text goes to stdout, everything else to stderr.')
    .argument(
      '<checkpoint...>',
      "a checkpoint, or a run's directory (its best checkpoint); with several, their probabilities are mixed, with weights as in a b:0.3 (default: 1)",
    )
    .optionsGroup('What to write:')
    .option('--prompt <text>', 'text to continue; without it the text starts after a line break')
    .option('--prompt-file <file>', 'the same from a file, or - for standard input')
    .option('--corpus <file>', 'continue a random window of this text instead (the seed decides which)')
    .addOption(
      new Option(
        '--unknown <what>',
        'what to do with characters of the prompt, or of --corpus, that the model does not know',
      ).choices(['error', 'skip']),
    )
    .option('--length <n>', 'characters to write (default: 500)', whole('--length'))
    .option('--count <n>', 'texts to write at once (default: 1)', whole('--count'))
    .option('--lines <n>', 'write whole lines instead, each of at most --length characters', whole('--lines'))
    .option('--novel', "with --lines: only lines that are not in the model's corpus")
    .option('--not-in <file>', 'with --lines: only lines that are not in this text')
    .option('--stop <text>', 'stop before this text; may be repeated', repeatable)
    .option('--keep-stop', 'stop after that text, not before it')
    .option('--until-lines <n>', 'stop after n lines, or at --length', whole('--until-lines'))
    .option('--until-sentences <n>', 'stop after n sentences', whole('--until-sentences'))
    .option('--best-of <n>', 'write n texts and print the likeliest', whole('--best-of'))
    .option('--only <characters>', 'write only these characters')
    .option(
      '--interactive',
      'offer continuations (--count, default 3, of --length, default 60): choose one by its number, or type; /help says more',
    )
    .option('--session <file>', 'with --interactive: continue what /save wrote there')
    .option(
      '--pattern <regex>',
      'write only text that this regular expression matches as a whole, such as "[A-Z][a-z]+"',
    )
    .option('--corpus-check <file>', 'say how much of the text is copied verbatim from this corpus')
    .option('--max-copy <n>', 'with --corpus-check: never copy more than n characters in a row', whole('--max-copy'))
    .option('--seed <n>', 'the same seed writes the same text (default: a random one, printed)', whole('--seed'))
    .optionsGroup('How to draw each character:')
    .option('--greedy', 'always the likeliest character');
  eachDrawRule((name, { argument, help, whole: integer = false }) =>
    command.option(`${flagOf(name)} <${argument}>`, help, numberOption(flagOf(name), { integer })),
  );
  command
    .option(
      '--window <n>',
      'draw each character from only the n before it, as a model trained with --target last has learned to; 0: carry the state ' +
        "(default: the checkpoint's sequence length for such a model, else 0)",
      whole('--window'),
    )
    .optionsGroup('How to print it:')
    .option('--echo', 'print the prompt before the text')
    .option('--separator <line>', "line between several texts; '' for none (default: --------)")
    .option(
      '--json',
      'one JSON object per text: {"sample", "seed", "prompt", "text", "finished"}, or per line: {"line", "seed", "prompt", "text"}',
    );
  return addModelOptions(command).addHelpText(
    'after',
    `
Examples:
  cudnn-lstm sample runs/book --prompt "It was" --length 1000
  cudnn-lstm sample runs/book --prompt-file opening.txt --temperature 0.6
  cudnn-lstm sample runs/names --lines 20 --novel
  cudnn-lstm sample runs/book --pattern "[A-Z][a-z ]+[.!]" --count 3
  cudnn-lstm sample runs/book --interactive --prompt "It was" > story.txt
  cudnn-lstm sample runs/poems runs/recipes:0.5`,
  );
}
