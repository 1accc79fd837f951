/**
 * The numeric sampling rules, as help lists them. This is their only definition, for the library, the command, the server and their
 * tests; native/core/draw_rules.h has what they compute, and `SamplingOptions` documents them for programmers.
 */
export interface DrawRule {
  /** The value that switches the rule off. */
  readonly plain: number;
  /** The default, if it is not `plain`. */
  readonly initial?: number;
  /** The range, `low` to `high`; with `above`, `low` itself is refused. */
  readonly low: number;
  readonly high: number;
  readonly above?: true;
  readonly whole?: true;
  /** The argument's name and its description in the command's help. */
  readonly argument: string;
  readonly help: string;
}

export const drawRules = {
  temperature: {
    plain: 1,
    initial: 0.8,
    low: 0,
    high: 100,
    argument: 't',
    help: 'below 1 more careful, above 1 wilder, 0 greedy (default: 0.8)',
  },
  topK: {
    plain: 0,
    low: 0,
    high: 65_536,
    whole: true,
    argument: 'k',
    help: 'only the k likeliest characters; 0: all',
  },
  topP: {
    plain: 1,
    low: 0,
    high: 1,
    above: true,
    argument: 'p',
    help: 'only the likeliest that together reach this probability; 1: all',
  },
  minP: {
    plain: 0,
    low: 0,
    high: 1,
    argument: 'p',
    help: 'only those at least this likely relative to the likeliest; 0: all',
  },
  typicalP: {
    plain: 1,
    low: 0,
    high: 1,
    above: true,
    argument: 'p',
    help: 'only those about as surprising as expected there, until they reach p; 1: all',
  },
  repetitionPenalty: {
    plain: 1,
    low: 0,
    high: 100,
    above: true,
    argument: 'r',
    help: 'above 1: make recently written characters less likely',
  },
  penaltyWindow: {
    plain: 64,
    low: 0,
    high: 65_536,
    whole: true,
    argument: 'n',
    help: 'what counts as recent, in characters (default: 64)',
  },
} as const satisfies Record<string, DrawRule>;

export type DrawRuleName = keyof typeof drawRules;

/** Maps each rule to a value, under the rule's name. */
export function eachDrawRule<T>(of: (name: DrawRuleName, rule: DrawRule) => T): Record<DrawRuleName, T> {
  const names = Object.keys(drawRules) as DrawRuleName[];
  return Object.fromEntries(names.map((name) => [name, of(name, drawRules[name])])) as Record<DrawRuleName, T>;
}
