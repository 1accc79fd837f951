/**
 * How messages name an option: as their reader writes it. For a program that calls the library that is `batchSize: 8`, for someone who
 * typed a command `--batch-size 8`. It is up to the command to say which applies to its process; see {@link asCommand}. Environment
 * variables and keys of a configuration file go by their own names; see `Configuration.sources`.
 */
import { pathWord } from './shell';

/** An option's value, or a word that stands for it, such as 'FILE'. */
type OptionValue = string | number | boolean | readonly string[];

/** Commands running in this process: one, except in tests. */
let commands = 0;

/** Runs a command's work: until it has ended, messages name options by their flags. */
export async function asCommand<T>(job: () => T | Promise<T>): Promise<T> {
  commands++;
  try {
    return await job();
  } finally {
    commands--;
  }
}

/** Chooses between the wording for someone who typed a command and that for a program. */
export function told<T>(ofCommand: T, ofProgram: T): T {
  return commands > 0 ? ofCommand : ofProgram;
}

/**
 * An option in a message, or several with their values. Call it where the message is made: any earlier, its reader is not yet known.
 *
 * @param named In camelCase: a name, `option('keep')`, or names with values, `option({ batchSize: 2, lock: false })`.
 */
export function option(named: string | Readonly<Record<string, OptionValue>>): string {
  if (typeof named === 'string') return told(flagOf(named), `\`${named}\``);
  const given = Object.entries(named);
  return told(
    given.map(([name, value]) => flagWith(name, value)).join(' '),
    `\`${given.map(([name, value]) => `${name}: ${literal(value)}`).join(', ')}\``,
  );
}

/** Names options with the values that they were given; {@link option} does, where nothing more is known of who gave them. */
export type Naming = (given: Readonly<Record<string, OptionValue>>) => string;

/** The options of a training run, including its texts: `train FILE --resume DIR`, or what `train` and `openTraining` take. */
export function trainCall({
  corpus = [],
  ...rest
}: Readonly<Record<string, OptionValue>> & { corpus?: readonly string[] }): string {
  const words = ['train', ...corpus.map(pathWord), ...(Object.keys(rest).length > 0 ? [option(rest)] : [])];
  return told(words.join(' '), option({ ...(corpus.length > 0 ? { corpus } : {}), ...rest }));
}

/** An option at the beginning of a message: `topK must be …`. */
export function subject(name: string): string {
  return told(flagOf(name), name);
}

/** Flags whose names differ from the library's options. */
const otherFlags: Readonly<Record<string, string>> = { configFile: '--config' };

/** `batchSize` as a flag: `--batch-size`. */
export function flagOf(name: string): string {
  return otherFlags[name] ?? `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

function flagWith(name: string, value: OptionValue): string {
  if (typeof value === 'boolean') return value ? flagOf(name) : flagOf(name).replace('--', '--no-');
  return [flagOf(name), ...[value].flat().map((word) => pathWord(String(word)))].join(' ');
}

/** A value as a program writes it. */
function literal(value: OptionValue): string {
  if (Array.isArray(value)) return `[${value.map(literal).join(', ')}]`;
  return typeof value === 'string' ? `'${value.replace(/[\\']/g, '\\$&')}'` : String(value);
}
