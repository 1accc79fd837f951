/** The optimisers as training sees them: what each keeps, and its own defaults. The update rules are in native/core/optimizers.h. */
import type { NativeParameter, NativeTrainCall, Optimizer, Slot } from '../device/native';
import { frozenParameters } from './fine-tuning';
import type { TrainingOptions } from './options';

/** Arrays, each as long as the parameters, that an optimiser may keep from step to step and that a resumed run needs. */
export type MomentSlot = Extract<Slot, 'firstMoments' | 'secondMoments'>;

interface OptimizerDefinition {
  readonly slots: readonly MomentSlot[];
  /** Default options with this optimiser; they override presets. */
  readonly defaults: Partial<TrainingOptions>;
}

export const optimizers: Readonly<Record<Optimizer, OptimizerDefinition>> = {
  adam: { slots: ['firstMoments', 'secondMoments'], defaults: {} },
  adamw: { slots: ['firstMoments', 'secondMoments'], defaults: { weightDecay: 0.01 } },
  sgd: { slots: ['firstMoments'], defaults: { learningRate: 1, momentum: 0.9 } },
  rmsprop: { slots: ['firstMoments', 'secondMoments'], defaults: { learningRate: 3e-3, beta2: 0.99 } },
};

/** The options that a train call needs for its updates. */
export function updateNumbers(
  options: TrainingOptions,
  parameters: () => readonly NativeParameter[],
): Pick<NativeTrainCall, 'optimizer' | 'beta1' | 'beta2' | 'epsilon' | 'clip' | 'momentum' | 'weightDecay' | 'frozen'> {
  const { optimizer, beta1, beta2, epsilon, clip, momentum, weightDecay, freeze } = options;
  const frozen = freeze > 0 ? { frozen: frozenParameters(parameters(), freeze) } : {};
  return { optimizer, beta1, beta2, epsilon, clip, momentum, weightDecay, ...frozen };
}
