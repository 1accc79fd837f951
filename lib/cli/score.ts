/** `score`: how well a model predicts texts. */
import { Command, Option } from 'commander';
import { writeFileAtomically } from '../checkpoint/disk';
import { holdsRun, modelName } from '../checkpoint/run-directory';
import { leftOut } from '../corpus/encoder';
import { readWeighted } from '../corpus/weighted';
import { DataError, exitCodes, UsageError } from '../errors';
import { isTaken } from '../files';
import type { LanguageModel } from '../model';
import { grouped, plural } from '../numbers';
import { mostPageCharacters, renderSurprise, SurpriseText } from '../report/surprise';
import { type Score, scoreOf } from '../scoring/score';
import { type OpenText, openText, readLines } from '../scoring/text';
import type { WindowScore } from '../scoring/window-protocol';
import {
  abortOnSignals,
  addModelOptions,
  type CommandIo,
  type ModelCommandOptions,
  numberOption,
  parseArguments,
  processIo,
} from './command';
import { columnsOf, wholeNumber, wrap } from './layout';
import { loadModels } from './load-model';
import { printJson, printLine, printText, say } from './output';
import { characterHeading, characterLine, scoreCharacters } from './per-character';
import { ScoringProgress } from './scoring-progress';

interface ScoreCommandOptions extends ModelCommandOptions {
  lines?: boolean;
  sort?: 'likely' | 'odd';
  protocol: 'stream' | 'window';
  window?: number;
  stride?: number;
  streams?: number;
  perCharacter?: boolean;
  rivals?: number;
  html?: string;
  unknown?: 'error' | 'skip';
  encoding?: string;
  gutenberg?: 'auto' | 'keep';
  json?: boolean;
}

/** What each way of scoring needs. */
interface Job {
  model: LanguageModel;
  texts: string[];
  options: ScoreCommandOptions;
  signal: AbortSignal;
  io: CommandIo;
  progress: ScoringProgress;
}

/** The command; see `score --help`. */
export async function scoreCommand(argv: string[], io: CommandIo = processIo): Promise<number> {
  const command = parseArguments(syntax(), argv);
  const options = command.opts<ScoreCommandOptions>();
  const { checkpoints, texts } = await divide(command.args);
  checkCombination(options);
  if (checkpoints.length > 1 && options.protocol === 'window') {
    throw new UsageError('--protocol window scores one model with its dropout: name one checkpoint.');
  }
  if (options.html !== undefined && (await isTaken(options.html)))
    throw new UsageError(`${options.html} is there already: name another file with --html.`);

  using interrupt = abortOnSignals(io);
  using loaded = await loadModels(checkpoints, options, interrupt.signal, io);
  const { model } = loaded;
  if (model.ofBytes && (options.lines || options.perCharacter)) {
    throw new UsageError(
      'The symbols of this model are bytes: it scores whole files, without --lines and --per-character.',
    );
  }
  const progress = new ScoringProgress(io.stderr);
  const job: Job = { model, texts, options, signal: interrupt.signal, io, progress };
  try {
    if (options.perCharacter) await scorePerCharacter(job, checkpoints.map(modelName).join(', '));
    else if (options.lines) await scoreLines(job);
    else if (options.protocol === 'window') await scoreByWindows(job);
    else await scoreWhole(job);
  } finally {
    progress.clear();
  }
  return exitCodes.ok;
}

/** The first argument is a checkpoint, and so are those directly after it that cannot be texts. */
async function divide(names: readonly string[]): Promise<{ checkpoints: string[]; texts: string[] }> {
  let count = 1;
  while (count < names.length && (await isCheckpoint(names[count] as string))) count++;
  if (count === names.length) {
    throw new UsageError(`${names.join(' and ')} are checkpoints: name the text to score behind them.`);
  }
  return { checkpoints: names.slice(0, count), texts: names.slice(count) };
}

async function isCheckpoint(argument: string): Promise<boolean> {
  const { name } = readWeighted(argument);
  return name.endsWith('.safetensors') || (await holdsRun(name));
}

function checkCombination(options: ScoreCommandOptions): void {
  if (options.protocol === 'window' && (options.lines || options.streams !== undefined)) {
    throw new UsageError(
      '--protocol window scores a whole text window by window; it goes without --lines and --streams.',
    );
  }
  if (options.protocol === 'stream' && (options.window !== undefined || options.stride !== undefined)) {
    throw new UsageError('--window and --stride go with --protocol window.');
  }
  if (options.perCharacter && (options.protocol === 'window' || options.lines || options.streams !== undefined)) {
    throw new UsageError(
      '--per-character scores a whole text as one stream; it goes without --protocol window, --lines and --streams.',
    );
  }
  if (!options.perCharacter && (options.html !== undefined || options.rivals !== undefined)) {
    throw new UsageError('--html and --rivals go with --per-character.');
  }
  if (options.rivals !== undefined && options.rivals < 0) throw new UsageError('--rivals must be 0 or more.');
  if (options.sort !== undefined && !options.lines) throw new UsageError('--sort goes with --lines.');
  if (options.lines && options.streams !== undefined) throw new UsageError('--lines goes without --streams.');
}

async function scoreWhole(job: Job): Promise<void> {
  const { model, options, signal, progress } = job;
  const scores = await eachText(job, async (text, name) => {
    const scoring = { streams: options.streams, signal, onProgress: progress.update.bind(progress) };
    const score = { ...(await model.score(text.ids, scoring)), skipped: text.skipped };
    await printScore(job, score, name);
    return score;
  });
  await printSum(job, scores);
}

/** Prints the score of all texts together, if there are several. */
async function printSum(job: Job, scores: readonly (Score & { skipped: number })[]): Promise<void> {
  if (job.texts.length === 1) return;
  const nats = scores.reduce((sum, score) => sum + score.loss * score.characters, 0);
  const characters = scores.reduce((sum, score) => sum + score.characters, 0);
  const skipped = scores.reduce((sum, score) => sum + score.skipped, 0);
  await printScore(job, { ...scoreOf(nats, characters), skipped }, undefined);
}

/** Prints each character to stdout, or writes all of them into a page; then prints the score as usual. */
async function scorePerCharacter(job: Job, name: string): Promise<void> {
  const { model, texts, options, signal, progress, io } = job;
  const { html, json } = options;
  const pages: { text: SurpriseText; bitsPerCharacter: number }[] = [];
  let characters = 0;
  const scores = await eachText(job, async (text, name) => {
    characters += text.ids.length;
    if (html !== undefined && characters > mostPageCharacters) {
      throw new DataError(
        `a page holds ${wholeNumber(mostPageCharacters)} characters, and with ${name} there are ${wholeNumber(characters)}: score a part of it, or leave out --html.`,
      );
    }
    const page = new SurpriseText(name);
    const onProgress = html === undefined ? {} : { onProgress: progress.update.bind(progress) };
    const named = texts.length > 1 ? { text: name } : {};
    const inspection = { rivals: options.rivals ?? 5, signal, ...onProgress };
    const score = await scoreCharacters(model, text, inspection, async (lines, piece) => {
      if (html !== undefined) page.add(piece);
      else if (json) for (const line of lines) await printJson(io.stdout, { ...line, ...named });
      else {
        if (piece.from === 0) await printLine(io.stdout, characterHeading);
        for (const line of lines) await printLine(io.stdout, characterLine(line));
      }
    });
    pages.push({ text: page, bitsPerCharacter: score.bitsPerCharacter });
    const counted = { ...score, skipped: text.skipped };
    await printScore(job, counted, name);
    return counted;
  });
  if (html !== undefined) {
    const text = Buffer.from(await renderSurprise(name, model.vocabulary.symbols, pages));
    await writeFileAtomically(html, [text], { signal });
    say(io.stderr, `page: ${html}`);
  }
  await printSum(job, scores);
}

/** @param name Name of the text; undefined: all of them. */
async function printScore(
  { model, texts, options, io, progress }: Job,
  score: Score & { skipped: number },
  name: string | undefined,
): Promise<void> {
  progress.clear();
  const named = texts.length > 1 ? { text: name ?? null } : {};
  if (options.json) await printJson(io.stdout, { ...score, ...named });
  else {
    const line = `${scoreText(score, model.ofBytes)}  ${name ?? 'all of them'}`;
    for (const part of wrap(line, columnsOf(io.stdout))) await printLine(io.stdout, part);
  }
}

async function scoreByWindows(job: Job): Promise<void> {
  const { model, texts, options, signal, progress, io } = job;
  await eachText(job, async (text, name) => {
    const scoring = {
      window: options.window,
      stride: options.stride,
      signal,
      onProgress: progress.update.bind(progress),
    };
    const score = await model.scoreWindows(text.ids, scoring);
    progress.clear();
    const named = texts.length > 1 ? { text: name } : {};
    const fields = { ...windowFields(score), skipped: text.skipped, ...named };
    if (options.json) await printJson(io.stdout, fields);
    else for (const line of windowLines(score, name, model.ofBytes)) await printLine(io.stdout, line);
  });
}

/** Flat, so that `loss` and its kin mean the same as without the protocol: dropout off. */
function windowFields({ window, stride, dropoutOff, dropoutOn }: WindowScore) {
  return {
    ...dropoutOff,
    lossWithDropout: dropoutOn.loss,
    bitsPerCharacterWithDropout: dropoutOn.bitsPerCharacter,
    protocol: 'window',
    window,
    stride,
  };
}

function windowLines(
  { window, windows, dropoutOff, dropoutOn }: WindowScore,
  text: string,
  ofBytes: boolean,
): string[] {
  return [
    `${text}: the ${ofBytes ? 'byte' : 'character'} after each of ${grouped(windows)} windows of ${window}`,
    `dropout off: ${scoreText(dropoutOff, ofBytes)}`,
    `dropout on:  ${scoreText(dropoutOn, ofBytes)}`,
  ];
}

async function scoreLines({ model, texts, options, signal, progress, io }: Job): Promise<void> {
  for (const source of texts) {
    const lines: string[] = [];
    for await (const line of readLines(model, source, { ...options, signal }, (note) => say(io.stderr, note)))
      lines.push(line);
    const scores = await model.scoreLines(lines, {
      unknown: options.unknown,
      signal,
      onProgress: (...at) => progress.update(...at),
    });
    progress.clear();
    const skipped = lines.map((line) => unknownOf(model, line));
    const all = skipped.flat();
    if (all.length > 0) say(io.stderr, leftOut(all.length, new Set(all)));
    for (const i of ordered(
      scores,
      skipped.map((list) => list.length),
      options.sort,
    )) {
      const [line, score] = [lines[i] as string, scores[i]];
      const bits = score ? score.bitsPerCharacter * score.characters : null;
      const figures = score ?? { bitsPerCharacter: null, loss: null, characters: 0 };
      const fields = { ...figures, bits, skipped: skipped[i]?.length ?? 0 };
      const named = texts.length > 1 ? { text: source } : {};
      if (options.json) await printJson(io.stdout, { line: i + 1, ...fields, content: line, ...named });
      else {
        const where = texts.length > 1 ? `${source}: ` : '';
        await printText(io.stdout, `${column(score?.bitsPerCharacter, 4)} ${column(bits, 2)}  ${where}${line}\n`);
      }
    }
  }
}

function column(value: number | null | undefined, digits: number): string {
  return (value?.toFixed(digits) ?? '-').padStart(8);
}

/**
 * Line numbers, from 0: in order, likeliest first, or first those that surprise the model most per character. Unknown characters
 * count as impossible: lines that have any are odder, and less likely, than all others. Lines with equal scores keep their order;
 * last come those that are too short for a score.
 */
function ordered(
  scores: readonly (Score | undefined)[],
  unknown: readonly number[],
  sort: 'likely' | 'odd' | undefined,
): number[] {
  const order = [...scores.keys()];
  if (sort === undefined) return order;
  const sign = sort === 'odd' ? -1 : 1;
  const bits = (score: Score | undefined) =>
    score === undefined ? 0 : score.bitsPerCharacter * (sort === 'odd' ? 1 : score.characters);
  const nothing = (line: number) => Number(scores[line] === undefined && unknown[line] === 0);
  const impossible = (line: number) => Number((unknown[line] as number) > 0);
  return order.sort(
    (a, b) =>
      nothing(a) - nothing(b) ||
      sign * (impossible(a) - impossible(b)) ||
      sign * (bits(scores[a]) - bits(scores[b])) ||
      a - b,
  );
}

/** The characters of a normalised line that are left out of its score: those unknown to a model that has no symbol for them. */
function unknownOf({ vocabulary }: LanguageModel, line: string): string[] {
  if (vocabulary.unknownId !== undefined) return [];
  return [...line].filter((symbol) => vocabulary.idOf(symbol) === undefined);
}

/** Opens the texts one after another and prints their notes; each is closed before the next is opened. */
async function eachText<T>(
  { model, texts, options, signal, io, progress }: Job,
  score: (text: OpenText, name: string) => Promise<T>,
): Promise<T[]> {
  const scores: T[] = [];
  for (const source of texts) {
    const text = await openText(model, source, { ...options, signal });
    try {
      for (const note of text.notes) say(io.stderr, note);
      scores.push(await score(text, source));
    } finally {
      progress.clear();
      text.close();
    }
  }
  return scores;
}

function scoreText({ bitsPerCharacter, loss, characters }: Score, ofBytes = false): string {
  const unit = ofBytes ? 'byte' : 'character';
  return `${bitsPerCharacter.toFixed(4)} bits, ${loss.toFixed(4)} nats per ${unit} (${plural(characters, unit)})`;
}

function syntax(): Command {
  const whole = (name: string) => numberOption(name, { integer: true });
  const command = new Command('score')
    .description(
      'Measure how well a model predicts texts: the mean cross-entropy of each character given all before it, from zero state, ' +
        'without the first character. Scores go to stdout, everything else to stderr.',
    )
    .usage('[options] <checkpoint...> <text...>')
    .argument(
      '<checkpoint>',
      "a checkpoint, or a run's directory (its best checkpoint); with several, one after another, their probabilities are mixed, with weights as in a b:0.3",
    )
    .argument(
      '<text...>',
      'files, directories, globs, the name of a corpus, or - for stdin; each text is scored by itself',
    )
    .option(
      '--lines',
      'score each line by itself, from zero state: bits per character, bits of the line, the name of the text if there are several, the line; a model trained with --lines counts the first character and the end, too',
    )
    .addOption(
      new Option(
        '--sort <how>',
        'with --lines: the likeliest line first, such as a weak password; or the oddest, with the most bits per character, after those with characters that the model does not know',
      ).choices(['likely', 'odd']),
    )
    .option(
      '--json',
      'one JSON object per text or line: {"bitsPerCharacter", "loss", "characters", "skipped"}; of a line "bits", too',
    )
    .option(
      '--streams <n>',
      'score a text in this many parts at once: faster, but each part begins without context',
      whole('--streams'),
    )
    .optionsGroup('Each character:')
    .option(
      '--per-character',
      'one line per character: its bits and its likeliest rivals; with --json an object {"position", "line", "column", ' +
        '"character", "bits", "rivals"}. The score comes last',
    )
    .option('--rivals <n>', 'how many rivals (default: 5)', whole('--rivals'))
    .option('--html <file>', 'write a page instead of lines: the text coloured by its bits, and its costliest places')
    .optionsGroup('Protocol:')
    .addOption(
      new Option(
        '--protocol <name>',
        'stream, or window: score the character after each window of the text given only that window, with dropout on and off',
      )
        .choices(['stream', 'window'])
        .default('stream'),
    )
    .option('--window <n>', 'with --protocol window: the length of a window (default: 100)', whole('--window'))
    .option(
      '--stride <n>',
      'with --protocol window: only every nth window, a faster estimate (default: 1)',
      whole('--stride'),
    )
    .optionsGroup('Text:')
    .addOption(
      new Option('--unknown <what>', 'what to do with characters that the model does not know').choices([
        'error',
        'skip',
      ]),
    )
    .option('--encoding <name>', 'encoding of the texts (default: utf-8)')
    .addOption(
      new Option('--gutenberg <what>', "strip Project Gutenberg's header and footer, or keep them").choices([
        'auto',
        'keep',
      ]),
    );
  return addModelOptions(command).addHelpText(
    'after',
    `
Examples:
  cudnn-lstm score runs/book another.txt
  cudnn-lstm score runs/log today.log --lines --sort odd --unknown skip
  cudnn-lstm score runs/book letter.txt --per-character --html letter.html
  cudnn-lstm score runs/a alice --protocol window --stride 40`,
  );
}
