// The optimisers, shared by host and device: kernels.inl compiles their rules for each instruction set,
// cuda/arithmetic.h for the GPU. Adding one takes an enumerator, a rule, and its lines in with_rule and kOptimizers;
// backends know none of them by name.
//
// A rule gives an optimiser's name, which of the two slots (arrays of one value per parameter, zero before the first
// step) it uses, how the constants of a step follow from the caller's options, and how one parameter is updated.
#pragma once

#include <cmath>
#include <cstddef>

#include "core/host_device.h"

namespace cudnn_lstm {

enum class Optimizer : int { adam, adamw, sgd, rmsprop };
inline constexpr Optimizer kOptimizers[] = {Optimizer::adam, Optimizer::adamw, Optimizer::sgd, Optimizer::rmsprop};

// The caller's options for one step. Before the rule, with every optimiser, the gradient g is scaled by clip / norm if
// its global L2 norm exceeds clip (0: never), and every parameter except the biases is scaled by 1 - learning_rate *
// weight_decay (Loshchilov & Hutter 2019: the decay does not pass through the rule). The first `frozen` parameters of
// the canonical layout never change, whatever the rule and the decay, and their gradients are left out of the norm.
struct OptimizerStep {
  double learning_rate;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-7;
  double clip = 0;
  Optimizer optimizer = Optimizer::adam;
  double weight_decay = 0;
  double momentum = 0;
  std::size_t frozen = 0;
};

// The constants of one step, as the rules read them.
struct UpdateConstants {
  Optimizer optimizer;
  float keep;  // weight decay factor, for parameters that decay
  float rate;
  float beta1;
  float beta2;
  float epsilon;
  float momentum;
};

// Adam (Kingma & Ba 2015, in the form at the end of section 2, which Keras uses): with step t counted from 1,
//   m += (1 - beta1) (g - m),  v += (1 - beta2) (g^2 - v),
//   p -= learning_rate * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + epsilon).
struct Adam {
  static constexpr const char* kName = "adam";
  static constexpr bool kFirst = true, kSecond = true;

  static void prepare(const OptimizerStep& step, double t, UpdateConstants& constants) {
    constants.rate = static_cast<float>(step.learning_rate * std::sqrt(1.0 - std::pow(step.beta2, t)) /
                                        (1.0 - std::pow(step.beta1, t)));
    constants.epsilon = static_cast<float>(step.epsilon);
  }

  CUDNN_LSTM_HD static float next(const UpdateConstants& c, float g, float& m, float& v, float p) {
    m = m + (1.0f - c.beta1) * (g - m);
    v = v + (1.0f - c.beta2) * (g * g - v);
    return p - c.rate * m / (sqrtf(v) + c.epsilon);
  }
};

// AdamW (Loshchilov & Hutter 2019) with PyTorch's epsilon, which is added after the root is bias-corrected. That is
// Adam with epsilon * sqrt(1 - beta2^t).
struct AdamW : Adam {
  static constexpr const char* kName = "adamw";

  static void prepare(const OptimizerStep& step, double t, UpdateConstants& constants) {
    Adam::prepare(step, t, constants);
    constants.epsilon = static_cast<float>(step.epsilon * std::sqrt(1.0 - std::pow(step.beta2, t)));
  }
};

// Gradient descent with heavy-ball momentum (Polyak 1964), as in PyTorch:
//   m = momentum * m + g,  p -= learning_rate * m.
struct Sgd {
  static constexpr const char* kName = "sgd";
  static constexpr bool kFirst = true, kSecond = false;

  static void prepare(const OptimizerStep& step, double, UpdateConstants& constants) {
    constants.rate = static_cast<float>(step.learning_rate);
  }

  CUDNN_LSTM_HD static float next(const UpdateConstants& c, float g, float& m, float&, float p) {
    m = c.momentum * m + g;
    return p - c.rate * m;
  }
};

// RMSprop (Tieleman & Hinton 2012), as in PyTorch:
//   v += (1 - beta2) (g^2 - v),  m = momentum * m + g / (sqrt(v) + epsilon),  p -= learning_rate * m.
struct RmsProp {
  static constexpr const char* kName = "rmsprop";
  static constexpr bool kFirst = true, kSecond = true;

  static void prepare(const OptimizerStep& step, double, UpdateConstants& constants) {
    constants.rate = static_cast<float>(step.learning_rate);
    constants.epsilon = static_cast<float>(step.epsilon);
  }

  CUDNN_LSTM_HD static float next(const UpdateConstants& c, float g, float& m, float& v, float p) {
    v = v + (1.0f - c.beta2) * (g * g - v);
    m = c.momentum * m + g / (sqrtf(v) + c.epsilon);
    return p - c.rate * m;
  }
};

// Calls work(rule) with the rule of `optimizer`.
template <class Work>
CUDNN_LSTM_HD void with_rule(Optimizer optimizer, const Work& work) {
  switch (optimizer) {
    case Optimizer::adam:
      return work(Adam{});
    case Optimizer::adamw:
      return work(AdamW{});
    case Optimizer::sgd:
      return work(Sgd{});
    case Optimizer::rmsprop:
      return work(RmsProp{});
  }
}

// t: the step number, from 1.
UpdateConstants update_constants(const OptimizerStep& step, double t);

// Updates one parameter and its values in the slots. Slots that the rule does not use are not touched.
template <class Rule>
CUDNN_LSTM_HD void update_parameter(const UpdateConstants& constants, float gradient, float* first, float* second,
                                    float* parameter) {
  float m = Rule::kFirst ? *first : 0.0f;
  float v = Rule::kSecond ? *second : 0.0f;
  const float next = Rule::next(constants, gradient, m, v, *parameter);
  if (Rule::kFirst) *first = m;
  if (Rule::kSecond) *second = v;
  *parameter = next;
}

}  // namespace cudnn_lstm
