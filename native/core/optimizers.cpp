#include "core/optimizers.h"

namespace cudnn_lstm {

UpdateConstants update_constants(const OptimizerStep& step, double t) {
  UpdateConstants constants{};
  constants.optimizer = step.optimizer;
  constants.keep = static_cast<float>(1.0 - step.learning_rate * step.weight_decay);
  constants.beta1 = static_cast<float>(step.beta1);
  constants.beta2 = static_cast<float>(step.beta2);
  constants.momentum = static_cast<float>(step.momentum);
  with_rule(step.optimizer, [&](auto rule) { rule.prepare(step, t, constants); });
  return constants;
}

}  // namespace cudnn_lstm
