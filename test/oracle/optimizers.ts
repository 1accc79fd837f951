/**
 * The optimisers in float64, written to be read: what their papers say, one parameter at a time. `t` counts steps from 1; `first` and
 * `second` are what each remembers about a parameter, initially zero.
 */

export interface StepNumbers {
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  /** Global-norm limit of the gradient; 0: none. */
  clip: number;
  momentum: number;
  /** Decoupled from the rule; on all but the biases. */
  weightDecay: number;
  /** The first `frozen` parameters do not change, and are left out of the norm. */
  frozen?: number;
}

interface Memory {
  first: number;
  second: number;
}

/** How far a parameter moves against its gradient `g`. */
type Rule = (options: StepNumbers, t: number, g: number, memory: Memory) => number;

export const rules: Readonly<Record<'adam' | 'adamw' | 'sgd' | 'rmsprop', Rule>> = {
  /** Kingma & Ba 2015, section 2, in the form that Keras also uses: epsilon is added to the root before its correction. */
  adam: (options, t, g, memory) => {
    memory.first = options.beta1 * memory.first + (1 - options.beta1) * g;
    memory.second = options.beta2 * memory.second + (1 - options.beta2) * g ** 2;
    const rate = (options.learningRate * Math.sqrt(1 - options.beta2 ** t)) / (1 - options.beta1 ** t);
    return (rate * memory.first) / (Math.sqrt(memory.second) + options.epsilon);
  },

  /** Loshchilov & Hutter 2019, algorithm 2. */
  adamw: (options, t, g, memory) => {
    memory.first = options.beta1 * memory.first + (1 - options.beta1) * g;
    memory.second = options.beta2 * memory.second + (1 - options.beta2) * g ** 2;
    const [first, second] = [memory.first / (1 - options.beta1 ** t), memory.second / (1 - options.beta2 ** t)];
    return (options.learningRate * first) / (Math.sqrt(second) + options.epsilon);
  },

  sgd: (options, _t, g, memory) => {
    memory.first = options.momentum * memory.first + g;
    return options.learningRate * memory.first;
  },

  rmsprop: (options, _t, g, memory) => {
    memory.second = options.beta2 * memory.second + (1 - options.beta2) * g ** 2;
    memory.first = options.momentum * memory.first + g / (Math.sqrt(memory.second) + options.epsilon);
    return options.learningRate * memory.first;
  },
};

export type RuleName = keyof typeof rules;
export const ruleNames = Object.keys(rules) as RuleName[];

export class OracleOptimizer {
  readonly first: Float64Array;
  readonly second: Float64Array;
  #steps = 0;

  /** @param decays Whether weight decay applies to a parameter. */
  constructor(
    readonly rule: RuleName,
    size: number,
    readonly decays: (k: number) => boolean,
  ) {
    this.first = new Float64Array(size);
    this.second = new Float64Array(size);
  }

  /** One step; changes `parameters`. */
  step(parameters: Float64Array, gradient: ArrayLike<number>, options: StepNumbers): void {
    const { frozen = 0 } = options;
    const norm = Math.sqrt(Array.from(gradient).reduce((sum, value, k) => sum + (k < frozen ? 0 : value * value), 0));
    const scale = options.clip > 0 && norm > options.clip ? options.clip / norm : 1;
    this.#steps++;
    for (let k = frozen; k < parameters.length; k++) {
      const memory = { first: this.first[k]!, second: this.second[k]! };
      const kept = parameters[k]! * (this.decays(k) ? 1 - options.learningRate * options.weightDecay : 1);
      parameters[k] = kept - rules[this.rule](options, this.#steps, gradient[k]! * scale, memory);
      this.first[k] = memory.first;
      this.second[k] = memory.second;
    }
  }
}
