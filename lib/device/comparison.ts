/**
 * Compares a GPU with the CPU backend: small models of every kind in fp32 and of two in the other precisions, and the model that is about
 * to run. A self-check (check.ts) does this in its child process.
 */
import type {
  Algorithm,
  NativeAddon,
  NativeModel,
  NativeModelOptions,
  NativeModelSpec,
  NativeTrainCall,
  Precision,
  Target,
} from './native';

/** A model that is about to be trained or sampled from. */
export interface CheckSubject {
  readonly shape: Omit<NativeModelSpec, 'seed'>;
  /** Sequences per step. */
  readonly batch: number;
  /** Characters per sequence. */
  readonly steps: number;
  readonly target: Target;
  /** The GPU's arithmetic. Default `'tf32'`. */
  readonly precision?: Precision | undefined;
  /** cuDNN's training algorithm. Default `'standard'`. */
  readonly algorithm?: Algorithm | undefined;
}

/** One model on both devices. */
export interface CheckCase {
  /** E.g. `fp32, onehot, 2 layers`. */
  readonly name: string;
  readonly spec: NativeModelSpec;
  readonly precision: Precision;
  readonly batch: number;
  readonly steps: number;
  readonly passes: readonly { readonly target: Target; readonly carryState: boolean }[];
}

/**
 * How far one quantity differs between the devices.
 *
 * @category Devices and this machine
 */
export interface CheckDifference {
  /** E.g. `gradient of lstm.weight_hh_l0, last`. */
  readonly what: string;
  /** Norm of the difference over the norm of the CPU's values; null where the GPU's are not finite. */
  readonly gap: number | null;
  /** The largest gap that passes. */
  readonly allowed: number;
}

/**
 * The outcome of a case.
 *
 * @category Devices and this machine
 */
export interface CheckedCase {
  readonly name: string;
  readonly precision: Precision;
  /** Number of quantities compared. */
  readonly compared: number;
  /** The quantity that exceeds its bound most, or comes closest to it. */
  readonly worst: CheckDifference;
  /** The quantities that exceed their bounds. */
  readonly failed: readonly CheckDifference[];
}

/**
 * The gaps allowed in outputs (logits, losses, state) and in gradients, their norms, moments and Adam's changes. Rounding of the operands
 * alone is 2^-11 in tf32 and fp16 and 2^-8 in bf16; sums of some hundred products in a different order differ by 1e-6 in fp32. A wrong
 * layout, a missing term or a wrong factor gives a gap of order 1.
 */
const bounds: Readonly<Record<Precision, { output: number; gradient: number }>> = {
  fp32: { output: 1e-4, gradient: 3e-4 },
  tf32: { output: 5e-3, gradient: 2e-2 },
  fp16: { output: 5e-3, gradient: 2e-2 },
  bf16: { output: 4e-2, gradient: 1e-1 },
};

const adam = { beta1: 0.9, beta2: 0.999 };
/** Optimiser steps per pass: the first is queued call by call, the second is captured, the third replays the graph. */
const optimiserSteps = 3;
const small = { vocabulary: 29, hidden: 40, embedding: 12, batch: 9, steps: 11 };
const everyPass = (['every', 'last'] as const).flatMap((target) =>
  [false, true].map((carryState) => ({ target, carryState })),
);

/**
 * The small models: in fp32, each input coding with one and two layers, and dropout at every depth from 1 to 3; then the other
 * precisions.
 *
 * @param computeCapability The GPU's; bf16 needs 8.0.
 */
export function smallCases(computeCapability: string): CheckCase[] {
  const cases: CheckCase[] = [];
  const add = (precision: Precision, input: NativeModelSpec['input'], layers: number, dropout: number) => {
    const { vocabulary, hidden, batch, steps } = small;
    const embedding = input === 'embedding' ? small.embedding : 0;
    const dropped = dropout > 0 ? ', dropout' : '';
    cases.push({
      name: `${precision}, ${input}, ${layers} layer${layers > 1 ? 's' : ''}${dropped}`,
      spec: { vocabulary, layers, hidden, input, embedding, dropout, seed: 5 },
      precision,
      batch,
      steps,
      passes: everyPass,
    });
  };
  for (const input of ['scalar', 'onehot', 'embedding'] as const) {
    add('fp32', input, 1, 0.3);
    add('fp32', input, 2, 0);
  }
  for (const layers of [2, 3]) add('fp32', 'embedding', layers, 0.3);
  const tensorCores = Number(computeCapability) >= 8;
  for (const precision of ['tf32', 'fp16', ...(tensorCores ? (['bf16'] as const) : [])] as const) {
    add(precision, 'onehot', 2, 0);
    add(precision, 'embedding', 2, 0.3);
  }
  return cases;
}

/** A model with more parameters is not compared: the CPU's copies of it would be gigabytes. */
const mostParameters = 6.4e7;
/** With more parameters, neither moments nor Adam's changes are read: each takes a tenth of a second or more. */
const mostMoved = 1e7;

/**
 * The model that is about to run, with first its sequences and then its batch cut to what a CPU computes in a second or two; undefined if
 * it is too large for that.
 */
export function caseOf(subject: CheckSubject, threads: number): CheckCase | undefined {
  const { shape, target } = subject;
  const { vocabulary, layers, hidden, input, embedding } = shape;
  const features = input === 'embedding' ? embedding : input === 'onehot' ? vocabulary : 1;
  const parameters =
    4 * hidden * (features + hidden) +
    (layers - 1) * 8 * hidden * hidden +
    vocabulary * (hidden + (input === 'embedding' ? embedding : 0));
  if (parameters > mostParameters) return undefined;
  const operations = 6 * parameters * optimiserSteps; // Per character, forward and backward.
  const characters = Math.max(8, (1e10 * Math.min(threads, 16)) / operations);
  const steps = Math.max(Math.min(subject.steps, 4), Math.min(subject.steps, Math.floor(characters / subject.batch)));
  const batch = Math.max(1, Math.min(subject.batch, Math.floor(characters / steps)));
  const precision = subject.precision ?? 'tf32';
  const coding = input === 'embedding' ? `embedding of ${embedding}` : input;
  return {
    name: `${precision}, this model: ${layers} x ${hidden}, ${coding}, ${vocabulary} symbols, ${batch} x ${steps}`,
    spec: { ...shape, seed: 5 },
    precision,
    batch,
    steps,
    passes: [{ target, carryState: target === 'every' }],
  };
}

/** Runs a case on both devices. */
export async function compareCase(
  addon: NativeAddon,
  check: CheckCase,
  gpuOptions: NativeModelOptions,
  threads: number,
): Promise<CheckedCase> {
  const cpu = await addon.createModel(check.spec, { device: 'cpu', threads });
  try {
    const gpu = await addon.createModel(check.spec, { ...gpuOptions, precision: check.precision });
    try {
      return summarize(check, await compareModels(check, cpu, gpu));
    } finally {
      gpu.dispose();
    }
  } finally {
    cpu.dispose();
  }
}

async function compareModels(check: CheckCase, cpu: NativeModel, gpu: NativeModel): Promise<CheckDifference[]> {
  const { spec, precision } = check;
  const { output, gradient } = bounds[precision];
  const found: CheckDifference[] = [];
  const compare = (what: string, allowed: number, expected: Values, actual: Values) => {
    found.push({ what, allowed, gap: difference(expected, actual) });
  };
  await cpu.initialize();
  const start = cpu.read('parameters');
  gpu.write('parameters', start);

  const fed = { ids: makeIds(4 * 5, spec.vocabulary, 3), streams: 5 };
  compare('logits', output, await cpu.logits(fed), await gpu.logits(fed));
  for (const [i, pass] of check.passes.entries()) {
    const { target, carryState } = pass;
    const name = `${target}${carryState ? ', carried' : ''}`;
    const text = {
      ...pass,
      ids: makeIds((check.steps + 1) * check.batch, spec.vocabulary, 4),
      steps: check.steps,
      batch: check.batch,
    };
    const masked = { ...text, dropout: spec.dropout > 0, maskStep: 7 };
    for (const part of carryState ? ['first', 'second'] : ['only']) {
      const [expected, actual] = [await cpu.evaluate(masked), await gpu.evaluate(masked)];
      compare(`nats of the ${part} text, ${name}`, output, expected, actual);
    }
    for (const model of [cpu, gpu]) {
      model.resetEvaluationState();
      if (i > 0) beginAnew(model, start);
    }
    const call = trainCall(check, pass);
    const [expected, actual] = [await cpu.trainSteps(call), await gpu.trainSteps(call)];
    compare(`losses, ${name}`, output, expected.losses, actual.losses);
    compare(`gradient norms, ${name}`, gradient, expected.norms, actual.norms);
    const [slope, slopes] = [cpu.read('gradients'), gpu.read('gradients')];
    for (const parameter of cpu.parameters) {
      const at = [parameter.offset, parameter.offset + parameter.size] as const;
      compare(`gradient of ${parameter.name}, ${name}`, gradient, slope.subarray(...at), slopes.subarray(...at));
    }
    if (carryState) compare(`state, ${name}`, output, cpu.read('trainingState'), gpu.read('trainingState'));
    if (start.length > mostMoved) continue;
    const slots = { 'first moments': 'firstMoments', 'second moments': 'secondMoments' } as const;
    for (const [what, slot] of Object.entries(slots)) {
      compare(`${what}, ${name}`, gradient, cpu.read(slot), gpu.read(slot));
    }
    const moved = (model: NativeModel) => model.read('parameters').map((value, at) => value - (start[at] as number));
    compare(`what Adam changed, ${name}`, gradient, moved(cpu), moved(gpu));
  }
  if (precision === 'fp32') {
    for (const model of [cpu, gpu]) beginAnew(model, start);
    found.push(...(await compareDrawing(spec, cpu, gpu)));
  }
  return found;
}

/** Compares texts drawn with one seed: all streams must have the same ids except one, whose coin may fall on a boundary. */
async function compareDrawing(spec: NativeModelSpec, cpu: NativeModel, gpu: NativeModel): Promise<CheckDifference[]> {
  const streams = 8;
  const count = 12;
  const ids = makeIds(3 * streams, spec.vocabulary, 8);
  const rules = { temperature: 0.8, topK: Math.min(20, spec.vocabulary), topP: 0.95, minP: 0.001, seed: 9 };
  const found: CheckDifference[] = [];
  for (const [what, sampling] of [['drawn texts', rules] as const, ['greedy texts', { greedy: true }] as const]) {
    const call = { sampling, ids, streams, count };
    const [expected, actual] = [(await cpu.sample(call)).ids, (await gpu.sample(call)).ids];
    const different = Array.from({ length: streams }, (_, s) =>
      Array.from({ length: count }, (_, n) => n * streams + s).some((i) => expected[i] !== actual[i]),
    );
    found.push({ what, allowed: 1 / streams, gap: different.filter(Boolean).length / streams });
  }
  return found;
}

/** Adam's epsilon is of a gradient's size here; otherwise the sign of a nearly zero gradient would decide the step. */
function trainCall(check: CheckCase, pass: CheckCase['passes'][number]): NativeTrainCall {
  const { batch, steps } = check;
  return {
    ...adam,
    ...pass,
    epsilon: 1e-3,
    ids: makeIds(optimiserSteps * (steps + 1) * batch, check.spec.vocabulary, 1),
    count: optimiserSteps,
    steps,
    batch,
    learningRates: new Float64Array(optimiserSteps).fill(1e-2),
    clip: 0.5,
  };
}

function beginAnew(model: NativeModel, parameters: Float32Array): void {
  model.write('parameters', parameters);
  for (const slot of ['firstMoments', 'secondMoments'] as const) model.write(slot, new Float32Array(parameters.length));
  model.stepCount = 0;
  model.resetTrainingState();
}

type Values = Float32Array | Float64Array;

/** Norm of the difference over the norm of the expected values; null if that is not finite. */
export function difference(expected: Values, actual: Values): number | null {
  if (expected.length !== actual.length) return null;
  let distance = 0;
  let size = 0;
  for (let i = 0; i < expected.length; i++) {
    const value = expected[i] as number;
    distance += ((actual[i] as number) - value) ** 2;
    size += value ** 2;
  }
  // Where zeros are expected, as in a zero gradient, values as small as rounding errors count as zero too.
  if (distance === 0) return 0;
  const gap = Math.sqrt(distance) / Math.max(Math.sqrt(size), 1e-7 * Math.sqrt(expected.length));
  return Number.isFinite(gap) ? gap : null;
}

/** The gap relative to the allowed one: above 1 is too much; infinite for a value that is not finite. */
export function excess({ gap, allowed }: CheckDifference): number {
  return gap === null ? Number.POSITIVE_INFINITY : gap / allowed;
}

function summarize({ name, precision }: CheckCase, found: readonly CheckDifference[]): CheckedCase {
  const worst = found.reduce((a, b) => (excess(b) > excess(a) ? b : a));
  return { name, precision, compared: found.length, worst, failed: found.filter((each) => excess(each) > 1) };
}

/** A small linear congruential generator: the same ids on every machine. */
function makeIds(count: number, vocabulary: number, seed: number): Int32Array {
  let state = seed >>> 0;
  return Int32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) % vocabulary;
  });
}
