/**
 * The numbers of the rules by which a character is drawn, as help lists them. Each stands once, for the library, the command, the server
 * and their tests; what the rules compute is in native/core/draw_rules.h, what a programmer is told of them in `SamplingOptions`.
 */
export interface DrawRule {
  /** What leaves the drawing as it is without the rule. */
  readonly plain: number;
  /** What applies where nothing is said, if it is not that. */
  readonly initial?: number;
  /** From `low` to `high`; with `above`, `low` itself is refused. */
  readonly low: number;
  readonly high: number;
  readonly above?: true;
  readonly whole?: true;
  /** What the command's help calls the number, and says of it. */
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

/** Something of each rule, under its name. */
export function eachDrawRule<T>(of: (name: DrawRuleName, rule: DrawRule) => T): Record<DrawRuleName, T> {
  const names = Object.keys(drawRules) as DrawRuleName[];
  return Object.fromEntries(names.map((name) => [name, of(name, drawRules[name])])) as Record<DrawRuleName, T>;
}
