/** Splits a text, checks that it is long enough, and finds sizes that fit if it is not. */
import { DataError } from '../errors';
import { grouped, plural } from '../numbers';
import { type Naming, option } from '../wording';
import type { TrainingOptions } from './options';

/** The options that decide how many characters a run needs. */
export type SizeOptions = Pick<TrainingOptions, 'target' | 'batchSize' | 'seqLength' | 'validation'> & {
  /** Whether there must be a whole batch of windows, of which an epoch's last may otherwise have fewer. */
  readonly wholeBatches?: boolean;
};

/** How messages speak of the options that were given. */
export interface Named {
  readonly named?: Naming;
  /** For a text that has only some of the sequences of a step: the batch size that leaves it at most as many as these. */
  readonly batchFor?: (sequences: number) => number;
}

/** How the ids are split: unless stated otherwise, training takes 0..training-1 and validation the next `validation` ids. */
export interface Split {
  readonly training: number;
  readonly validation: number;
  /** How many places the validation ids come from, if not from the end of the text. */
  readonly places?: number;
}

/** The fewest steps per epoch, and characters per sequence, that are worth having. */
const [goodSteps, goodLength] = [8, 5];

/** The minimum number of characters to train on. */
export function leastLength({ target, batchSize, seqLength, wholeBatches = false }: SizeOptions): number {
  if (target === 'every') return Math.max(2, batchSize * seqLength);
  return seqLength + (wholeBatches ? batchSize : 1);
}

/** The requested split, or undefined if the text is too short for it or for training on the rest. */
export function divide(length: number, options: SizeOptions): Split | undefined {
  const validation = Math.floor(length * options.validation);
  const training = length - validation;
  if (options.validation > 0 && validation < 1) return undefined;
  return training >= leastLength(options) ? { training, validation } : undefined;
}

/**
 * The sizes nearest to those requested that fit: fewer sequences first, then shorter ones, and no validation text only if it would have
 * no characters. Undefined for a text of one character.
 */
export function fittingSizes(length: number, asked: SizeOptions): SizeOptions | undefined {
  const validation = length * asked.validation < 1 ? 0 : asked.validation;
  const training = length - Math.floor(length * validation);
  if (training < 2) return validation > 0 ? fittingSizes(length, { ...asked, validation: 0 }) : undefined;
  if (asked.target === 'last') {
    const seqLength = Math.min(asked.seqLength, Math.max(1, Math.floor(training / 2)));
    const batchSize = asked.wholeBatches ? Math.min(asked.batchSize, training - seqLength) : asked.batchSize;
    return { ...asked, validation, seqLength, batchSize };
  }
  let batchSize = asked.batchSize;
  while (batchSize > 1 && goodSteps * batchSize * asked.seqLength > training) batchSize = Math.floor(batchSize / 2);
  const longest = Math.max(Math.floor(training / goodSteps), Math.min(goodLength, Math.floor(training / 2)));
  const seqLength = batchSize > 1 ? asked.seqLength : Math.min(asked.seqLength, longest);
  return { ...asked, validation, batchSize, seqLength };
}

/** The error for a text that is too short, with options that work. */
export function tooShort(length: number, asked: SizeOptions & Named): DataError {
  const { target, batchSize, seqLength, validation, named = option } = asked;
  const kept = Math.floor(length * validation);
  const share = kept === 0 && validation > 0 ? `${named({ validation })} leaves none to validate on` : undefined;
  const least = leastLength(asked);
  const need =
    length - kept >= least
      ? undefined
      : target === 'every'
        ? `${named({ batchSize })} times ${named({ seqLength })} takes ${grouped(least)} to train on`
        : asked.wholeBatches
          ? `every step takes ${named({ batchSize })}, windows of ${named({ seqLength })}, which take ${grouped(least)} to train on`
          : `a window of ${named({ seqLength })} and the character after it take ${grouped(least)} to train on`;
  const fitting = fittingSizes(length, asked);
  const reasons = [share, need].filter((reason) => reason !== undefined).join(', and ');
  const kinder = kept > 0 ? ` (${grouped(kept)} of them to validate on)` : '';
  return new DataError(
    `The corpus is too short: ${plural(length, 'character')}${kinder}, and ${reasons}; give a longer ` +
      `text${fitting ? `, or ${option(changes(fitting, asked))}` : ''}.`,
  );
}

/** The fitting options that differ from those requested, as a remedy. */
export function changes(
  fitting: Partial<SizeOptions>,
  asked: Partial<SizeOptions> & Named,
): Partial<Record<keyof SizeOptions, number>> {
  const { batchFor = (sequences) => sequences } = asked;
  const names = ['batchSize', 'seqLength', 'validation'] as const;
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = fitting[name];
      if (value === undefined || value === asked[name]) return [];
      return [[name, name === 'batchSize' ? batchFor(value) : value]];
    }),
  );
}
