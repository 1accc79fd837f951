// cuDNN's LSTM: descriptors, the weight space and the three calls. One multi-layer descriptor, so that cuDNN can
// overlap the layers; its own dropout between them.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/layout.h"
#include "cuda/cuda.h"
#include "cuda/device_memory.h"
#include "cuda/libraries.h"

namespace cudnn_lstm::cuda {

using CudnnHandle = Owned<cudnnHandle_t, cudnnStatus_t>;
using TensorDescriptor = Owned<cudnnTensorDescriptor_t, cudnnStatus_t>;
using DropoutDescriptor = Owned<cudnnDropoutDescriptor_t, cudnnStatus_t>;
using RnnDescriptor = Owned<cudnnRNNDescriptor_t, cudnnStatus_t>;
using RnnDataDescriptor = Owned<cudnnRNNDataDescriptor_t, cudnnStatus_t>;

// How numbers are stored and multiplied.
struct Numerics {
  cudnnDataType_t type;      // of weights, activations and state
  cudnnMathType_t math;      // of cuDNN's products
  cudaDataType_t blas_type;  // `type` for cuBLAS
  cublasComputeType_t blas_compute;
  std::size_t bytes;  // of an element
  const char* title;  // what ran, for the summary
};
Numerics numerics_of(Precision precision, int compute_capability_major);

// A run of consecutive values that lie at `canonical` in the canonical layout and at `arena` in the backend's own
// order.
struct Segment {
  std::size_t canonical;
  std::size_t arena;
  std::size_t size;
};

// Where a weight space holds the model's parameters, and where a second bias that must stay zero (make_descriptor).
struct WeightMap {
  std::vector<Segment> parameters;
  std::vector<Segment> frozen;  // merged where they adjoin; `canonical` has no meaning
};

// What every pass of one model shares: the handle, the dropout state, the shape.
class Rnn {
 public:
  // persistent: leave room for the persistent algorithms, which cuDNN has with two bias vectors a layer only.
  // Throws Error(kInvalidArgument) for a precision that this cuDNN does not have.
  Rnn(std::shared_ptr<const Libraries> libraries, const ModelSpec& spec, const Numerics& numerics, bool persistent,
      cudaStream_t stream, MemoryAccount& account);

  // cudnnSetRNNDescriptor_v8; empty where cuDNN says that it has no such algorithm for this model.
  // dropout: with the model's dropout between the layers, which acts in training passes alone.
  RnnDescriptor make_descriptor(cudnnRNNAlgo_t algorithm, bool dropout) const;

  // Elements of the weight space of a descriptor.
  std::size_t weight_elements(cudnnRNNDescriptor_t descriptor) const;
  // Where the canonical parameters of the layers lie in a weight space at `weights`. Throws Error(kDeviceFailed) if
  // cuDNN's matrices are not of the documented shapes.
  WeightMap weight_map(cudnnRNNDescriptor_t descriptor, const Layout& layout, const void* weights) const;

  // The masks between the layers are a function of (seed, step) alone: cuDNN's generator is seeded for every step. That
  // takes as long as a small step does, so it happens on a stream of its own, while the step before runs.
  // Both do nothing for a model without such masks, and must not be called inside a capture.

  // The next training pass queued on the model's stream has the masks of `mask_step`.
  void use_masks(std::uint64_t mask_step);
  // Starts on the masks that will be asked for next.
  void prepare_masks(std::uint64_t mask_step);

  const Libraries& libraries() const { return *libraries_; }
  cudnnHandle_t handle() const { return handle_.get(); }
  const Numerics& numerics() const { return numerics_; }
  const ModelSpec& spec() const { return spec_; }

 private:
  const std::shared_ptr<const Libraries> libraries_;
  const ModelSpec spec_;
  const Numerics numerics_;
  const cudnnRNNBiasMode_t bias_mode_;
  const cudaStream_t stream_;
  CudnnHandle handle_;
  DropoutDescriptor no_dropout_;

  // Seeded on a second stream, by a handle of its own, into `states`; copied from there into the state that the passes
  // work on.
  struct Seeding {
    Stream stream;
    CudnnHandle handle;
    DeviceBuffer states;
    DropoutDescriptor descriptor;
    Event seeded, taken;
    std::optional<std::uint64_t> mask_step;  // that `states` is for
  };
  DeviceBuffer dropout_states_;
  DropoutDescriptor dropout_;
  Seeding seeding_;
};

// The descriptors and scratch memory of passes over one shape with one algorithm.
class RnnPass {
 public:
  // A pass of T = steps, B = batch. training: with a reserve for the gradient, and dropout.
  RnnPass(const Rnn& rnn, cudnnRNNAlgo_t algorithm, RnnDescriptor descriptor, int steps, int batch, bool training,
          MemoryAccount& account);

  // y [T, B, H], hy and cy [L, B, H] from x [T, B, in]; hx, cx nullptr for zero.
  void forward(const void* weights, const void* x, void* y, const void* hx, void* hy, const void* cx, void* cy) const;
  // dx from dy; no gradient comes in from behind the last tick. Changes the reserve: to be called before
  // backward_weights.
  void backward_data(const void* weights, const void* y, const void* dy, void* dx, const void* hx,
                     const void* cx) const;
  // Adds to dweights, which the caller has zeroed.
  void backward_weights(const void* x, const void* hx, const void* y, void* dweights) const;

  cudnnRNNDescriptor_t descriptor() const { return descriptor_.get(); }
  cudnnRNNAlgo_t algorithm() const { return algorithm_; }

 private:
  const Rnn* rnn_;
  cudnnRNNAlgo_t algorithm_;
  cudnnForwardMode_t mode_;
  std::size_t weight_bytes_;
  RnnDescriptor descriptor_;
  RnnDataDescriptor x_, y_;
  TensorDescriptor state_;
  DeviceBuffer work_, reserve_;
};

const char* algorithm_title(cudnnRNNAlgo_t algorithm);

}  // namespace cudnn_lstm::cuda
