/** The sampler's options and their checks. */
import { randomInt } from 'node:crypto';
import { isUint8Array } from 'node:util/types';
import { type DrawRule, type DrawRuleName, eachDrawRule } from '../device/draw-rules';
import type { NativeSamplingOptions } from '../device/native';

/** The rules with every default filled in; their random stream is set call by call. */
export type ResolvedSampling = Required<
  Omit<NativeSamplingOptions, 'stream' | 'position' | 'history' | 'allowed' | 'biasedIds' | 'biases'>
>;

import {
  type Checks,
  callbackOf,
  choiceOf,
  fieldsOf,
  flagOf,
  listOf,
  optionsOf,
  show,
  signalOf,
  textOf,
  wholeOf,
} from '../arguments';
import { TextIndex } from '../corpus/text-index';
import { OptionError, UsageError } from '../errors';
import { grouped } from '../numbers';
import { readPattern } from './pattern';
import type { TextEnds } from './stop';

/**
 * How the next character is drawn. The rules apply in this order: repetition penalty, temperature, top-k, top-p, min-p, typical-p.
 *
 * @category Generating
 */
export interface SamplingOptions {
  /**
   * Always takes the likeliest character; everything but the repetition penalty then has no effect.
   *
   * @default false
   */
  greedy?: boolean | undefined;
  /**
   * Divides the logits, 0 to 100: below 1 is more careful, above 1 wilder, 0 the same as greedy.
   *
   * @default 0.8
   */
  temperature?: number | undefined;
  /**
   * Keeps only the k likeliest characters, 0 to 65,536; 0: all (Fan et al. 2018).
   *
   * @default 0
   */
  topK?: number | undefined;
  /**
   * Keeps only the likeliest characters that together reach this probability, above 0 to 1; 1: all (Holtzman et al. 2020).
   *
   * @default 1
   */
  topP?: number | undefined;
  /**
   * Keeps only characters at least this likely relative to the likeliest, 0 to 1; 0: all (Nguyen et al. 2024).
   *
   * @default 0
   */
  minP?: number | undefined;
  /**
   * Keeps only the characters whose surprise is closest to the expected surprise, until together they reach this probability, above 0 to 1;
   * 1: all (Meister et al. 2023).
   *
   * @default 1
   */
  typicalP?: number | undefined;
  /**
   * Weakens characters seen in the last `penaltyWindow`, above 0 to 100; 1: off (Keskar et al. 2019).
   *
   * @default 1
   */
  repetitionPenalty?: number | undefined;
  /**
   * How many characters back the repetition penalty looks, 0 to 65,536.
   *
   * @default 64
   */
  penaltyWindow?: number | undefined;
  /**
   * Seeds every draw, a whole number from 0 to 2^53 - 1: the same seed, model and prompt give the same text.
   *
   * @default a random one
   */
  seed?: number | undefined;
}

/**
 * Options of {@link LanguageModel.generate}.
 *
 * @category Generating
 */
export interface GenerateOptions extends SamplingOptions {
  /**
   * Text to continue, normalised as the corpus was. For a model of bytes it may be bytes.
   *
   * @default none: the text starts after a line break
   */
  prompt?: string | Uint8Array | undefined;
  /**
   * Characters (code points) to generate for each text, 0 to 1e12.
   *
   * @default 500
   */
  length?: number | undefined;
  /**
   * What to do about a character of the prompt that the model does not know: throw an error that names it, or skip it.
   *
   * @default 'error'
   */
  unknown?: 'error' | 'skip' | undefined;
  /**
   * Ends the text before the first of these strings, at most 10,000; no part of it is returned unless `keepStop` is set.
   *
   * @default none
   */
  stop?: string | readonly string[] | undefined;
  /**
   * Ends the text after the stop string, not before it.
   *
   * @default false
   */
  keepStop?: boolean | undefined;
  /**
   * Ends the text before the line break that completes this many lines, 1 to 1,000,000; at `length` at the latest.
   *
   * @default no limit
   */
  untilLines?: number | undefined;
  /**
   * Ends the text after this many sentences, 1 to 1,000,000; at `length` at the latest. A sentence ends with . ! ? or … before white space,
   * possibly with closing quotation marks and brackets between them, or with 。！ or ？.
   *
   * @default no limit
   */
  untilSentences?: number | undefined;
  /**
   * How many characters each character is drawn from, 0 to 1,000,000. 0: the recurrent state is carried from character to character.
   * n: from the n before it, starting from zero state, as a model trained on windows (`target: 'last'`) has learned to.
   *
   * @default the checkpoint's sequence length for a model trained on windows, 0 for all others
   */
  window?: number | undefined;
  /**
   * Restricts the text to those of these characters that the model knows.
   *
   * @default all that the model knows
   */
  only?: string | undefined;
  /**
   * A regular expression, in RegExp's syntax with the u flag, that the whole text must match: without the prompt, and within `length`,
   * however little of that is left. Once a match is complete, the text ends as soon as the model writes something that cannot follow.
   * Lookahead, lookbehind and backreferences are refused.
   *
   * @default any text
   */
  pattern?: string | undefined;
  /**
   * Allows no run of more than `length` characters that occurs verbatim in a corpus; see {@link LanguageModel.indexText}. The prompt does
   * not count.
   *
   * @default no limit
   */
  maxCopy?: { readonly index: TextIndex; readonly length: number } | undefined;
  /** Ends the generation; the iterator throws the signal's reason. */
  signal?: AbortSignal | undefined;
}

/**
 * Options of a model's `generateLines`.
 *
 * @category Generating
 */
export interface GenerateLinesOptions
  extends Omit<
    GenerateOptions,
    'prompt' | 'stop' | 'keepStop' | 'untilLines' | 'untilSentences' | 'only' | 'pattern' | 'maxCopy'
  > {
  /**
   * What each line begins with.
   *
   * @default nothing
   */
  prompt?: string | undefined;
  /**
   * The most characters of a line, not counting the prompt's, 0 to 1e12; a longer line is replaced by another.
   *
   * @default 500
   */
  length?: number | undefined;
  /**
   * Lines to leave out, such as those of the corpus: a {@link KnownLines}, a Set, or anything else with a `has` method.
   *
   * @default none
   */
  known?: { has(line: string): boolean } | undefined;
}

/** Numbers are checked where their ranges are. */
const number = (_: string, value: unknown) => value as number;

const generateChecks: Checks<GenerateOptions> = {
  ...eachDrawRule(() => number),
  greedy: flagOf,
  seed: number,
  prompt: (what, value) => (isUint8Array(value) ? value : textOf(what, value)),
  length: number,
  unknown: (what, value) => choiceOf(what, value, ['error', 'skip']),
  stop: (what, value) => (typeof value === 'string' ? value : listOf(what, value, textOf, 10_000)),
  keepStop: flagOf,
  untilLines: number,
  untilSentences: number,
  window: number,
  only: textOf,
  pattern: textOf,
  maxCopy: (what, value) => {
    const { index, length } = fieldsOf<NonNullable<GenerateOptions['maxCopy']>>(what, value, ['index', 'length']);
    if (!(index instanceof TextIndex))
      throw new UsageError(`index of ${what} must be what indexText gives, not ${show(index)}.`);
    return { index, length: wholeOf(`length of ${what}`, length, 1, 65_536) };
  },
  signal: signalOf,
};

/**
 * {@link GenerateOptions} as plain values.
 *
 * @param call The method that received them.
 * @throws UsageError for a property of the wrong type.
 */
export function readGenerateOptions(options: GenerateOptions, call: string): GenerateOptions {
  return optionsOf<GenerateOptions>('options', options, generateChecks, call);
}

/** {@link GenerateLinesOptions} as plain values. @throws UsageError for a property of the wrong type. */
export function readGenerateLinesOptions(options: GenerateLinesOptions): GenerateLinesOptions {
  const { stop, keepStop, untilLines, untilSentences, only, pattern, maxCopy, ...checks } = {
    ...generateChecks,
    prompt: textOf,
  };
  return optionsOf<GenerateLinesOptions>(
    'options',
    options,
    {
      ...checks,
      known: (what, value) => {
        const { has } = fieldsOf<{ has: unknown }>(what, value, ['has']);
        const asked = callbackOf<(line: string) => unknown>(`has of ${what}`, has);
        return { has: (line) => Boolean(asked.call(value, line)) };
      },
    },
    'generateLines',
  );
}

/** {@link SamplingOptions} with every default filled in and every range checked. */
export function checkSamplingOptions(options: SamplingOptions): ResolvedSampling {
  const numbers = eachDrawRule((name, rule) => checkNumber(name, options[name] ?? rule.initial ?? rule.plain, rule));
  return {
    ...numbers,
    greedy: (options.greedy ?? false) || numbers.temperature === 0,
    temperature: numbers.temperature || 1,
    seed: whole('seed', options.seed ?? randomInt(2 ** 32), 0, Number.MAX_SAFE_INTEGER),
  };
}

function checkNumber(name: DrawRuleName, value: number, rule: DrawRule): number {
  return (rule.whole ? whole : rule.above ? above : within)(name, value, rule.low, rule.high);
}

/** The most streams that one call draws at once. */
export const maxStreams = 4096;

/** Everything about a generation but the sampling rules, checked and with defaults filled in. */
export interface GenerationPlan extends TextEnds {
  length: number;
  window: number;
  streams: number;
}

/** Checks the rest of {@link GenerateOptions}. `defaultWindow` is the model's own. */
export function checkGeneration(options: GenerateOptions, streams: number, defaultWindow: number): GenerationPlan {
  const stop = options.stop === undefined ? [] : typeof options.stop === 'string' ? [options.stop] : [...options.stop];
  const { prompt = '' } = options;
  if ((typeof prompt !== 'string' && !isUint8Array(prompt)) || stop.some((text) => typeof text !== 'string')) {
    throw new UsageError('prompt and stop must be strings.');
  }
  if (stop.includes(''))
    throw new OptionError('stop', 'must not be an empty string: the text would end before it began.');
  if (stop.some((text) => Buffer.from(text).toString() !== text)) {
    throw new OptionError('stop', 'must be well-formed text: one of its surrogates stands alone.');
  }
  if (options.unknown !== undefined && options.unknown !== 'error' && options.unknown !== 'skip') {
    throw new OptionError('unknown', `must be 'error' or 'skip', not '${String(options.unknown)}'.`);
  }
  if (options.pattern !== undefined) readPattern(options.pattern);
  return {
    length: whole('length', options.length ?? 500, 0, 1e12),
    window: whole('window', options.window ?? defaultWindow, 0, 1_000_000),
    streams: whole('count', streams, 1, maxStreams),
    stop,
    keepStop: options.keepStop ?? false,
    untilLines: most('untilLines', options.untilLines),
    untilSentences: most('untilSentences', options.untilSentences),
  };
}

function most(name: string, value: number | undefined): number | undefined {
  return value === undefined ? undefined : whole(name, value, 1, 1_000_000);
}

function within(name: string, value: number, low: number, high: number): number {
  if (typeof value === 'number' && value >= low && value <= high) return value;
  throw new OptionError(name, `must be from ${low} to ${high}, not ${show(value)}.`);
}

function above(name: string, value: number, low: number, high: number): number {
  if (typeof value === 'number' && value > low && value <= high) return value;
  throw new OptionError(name, `must be above ${low} and at most ${high}, not ${show(value)}.`);
}

function whole(name: string, value: number, low: number, high: number): number {
  if (Number.isSafeInteger(value) && value >= low && value <= high) return value;
  throw new OptionError(name, `must be a whole number from ${low} to ${grouped(high)}, not ${show(value)}.`);
}
