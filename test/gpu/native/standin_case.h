// What the stand-in's cases share: models on both devices from one specification, ids, and the checks after each case.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "check.h"
#include "core/initialize.h"
#include "core/random.h"
#include "cuda/cuda.h"
#include "standin.h"

using namespace cudnn_lstm;

inline std::string library_folder;
inline const std::atomic<bool> kNeverStop{false};

inline ModelSpec make_spec(InputCoding coding, int layers, float dropout) {
  return {11, layers, 9, coding, coding == InputCoding::embedding ? 6 : 0, dropout, 42};
}

inline std::vector<std::int32_t> make_ids(int count, int vocabulary, std::uint32_t stream) {
  std::vector<std::int32_t> ids(count);
  for (int i = 0; i < count; ++i) {
    ids[i] = static_cast<std::int32_t>(philox4x32({static_cast<std::uint32_t>(i), stream, 0, 0}, philox_key(3))[0] %
                                       vocabulary);
  }
  return ids;
}

inline std::unique_ptr<Backend> make_cuda(const ModelSpec& spec, cuda::Precision precision = cuda::Precision::fp32,
                                          cuda::Algorithm algorithm = cuda::Algorithm::standard, int pieces = 1) {
  cuda::CudaOptions options;
  options.pieces = pieces;
  options.precision = precision;
  options.algorithm = algorithm;
  options.library_path = library_folder;
  return cuda::create_cuda_backend(spec, options);
}

inline std::vector<float> read(const Backend& backend, Slot slot) {
  std::vector<float> values(backend.slot_size(slot));
  if (!values.empty()) backend.read(slot, values.data());
  return values;
}

inline void initialize_both(Backend& a, Backend& b) {
  std::vector<float> parameters(a.layout().size());
  initialize(a.spec(), a.layout(), parameters.data());
  a.write(Slot::parameters, parameters.data(), parameters.size());
  b.write(Slot::parameters, parameters.data(), parameters.size());
}

inline void initialize_one(Backend& a) {
  std::vector<float> parameters(a.layout().size());
  initialize(a.spec(), a.layout(), parameters.data());
  a.write(Slot::parameters, parameters.data(), parameters.size());
}

inline void expect_clean(const char* when) {
  for (const std::string& fault : standin::faults()) expect(false, std::string(when) + ": " + fault);
  standin::faults().clear();
}

inline void expect_nothing_left() {
  expect(standin::live_objects() == 0, "objects left: " + std::to_string(standin::live_objects()));
  expect(standin::live_bytes() == 0, "bytes left: " + std::to_string(standin::live_bytes()));
  expect_clean("after");
}

inline constexpr OptimizerStep kOptimizer{1e-2, 0.9, 0.999, 1e-7, 0.5};
inline constexpr Slot kAllSlots[] = {Slot::parameters, Slot::gradients, Slot::first_moments, Slot::second_moments,
                                     Slot::training_state};
