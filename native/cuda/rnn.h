// cuDNN's LSTM: descriptors, weight spaces and the three calls, for all layers at once or for one. Never with cuDNN's
// own dropout (docs/adr/0007-cuda-graphs.md).
#pragma once

#include <memory>
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
  std::size_t bytes;  // per element
  const char* title;  // names what ran, for the summary
};
Numerics numerics_of(Precision precision, int compute_capability_major);

// A run of consecutive values that lie at `canonical` in the canonical layout and at `arena` in the backend's own
// order.
struct Segment {
  std::size_t canonical;
  std::size_t arena;
  std::size_t size;
};

// Where a weight space holds the model's parameters, and a second bias that must stay zero (make_descriptor).
struct WeightMap {
  std::vector<Segment> parameters;
  std::vector<Segment> frozen;  // adjacent ones merged; `canonical` has no meaning
};

// Neighbouring layers that cuDNN runs in one call.
struct LayerRange {
  int first;
  int count;
};

// Shared by all passes of one model: the shape, the streams, and a handle per stream, since a handle keeps scratch
// memory that two streams must not use at once.
class Rnn {
 public:
  // persistent: leave room for the persistent algorithms, which cuDNN has only with two bias vectors per layer.
  // two_streams: parts of a pass may run concurrently, on a second stream that the backend owns.
  // Throws Error(kInvalidArgument) for a precision that this cuDNN lacks.
  Rnn(std::shared_ptr<const Libraries> libraries, const ModelSpec& spec, const Numerics& numerics, bool persistent,
      bool two_streams, cudaStream_t stream);

  // cudnnSetRNNDescriptor_v8; empty if cuDNN reports that it lacks the algorithm for these layers.
  RnnDescriptor make_descriptor(cudnnRNNAlgo_t algorithm, const LayerRange& range) const;

  // Elements in a descriptor's weight space.
  std::size_t weight_elements(cudnnRNNDescriptor_t descriptor) const;
  // Where the layers' canonical parameters lie in a weight space at `weights`. Throws Error(kDeviceFailed) if cuDNN's
  // matrices do not have the documented shapes.
  WeightMap weight_map(cudnnRNNDescriptor_t descriptor, const LayerRange& range, const Layout& layout,
                       const void* weights) const;

  LayerRange all_layers() const { return {0, spec_.layers}; }
  int features(const LayerRange& range) const { return range.first == 0 ? spec_.input_size() : spec_.hidden; }

  // lane: 0 for the model's stream, 1 for the side stream, null if there is none.
  cudaStream_t stream(int lane = 0) const { return lane == 0 ? stream_ : side_stream_.get(); }
  cudnnHandle_t handle(int lane = 0) const { return (lane == 0 ? handle_ : side_handle_).get(); }
  const Libraries& libraries() const { return *libraries_; }
  const Numerics& numerics() const { return numerics_; }
  const ModelSpec& spec() const { return spec_; }

 private:
  CudnnHandle make_handle(cudaStream_t stream) const;

  const std::shared_ptr<const Libraries> libraries_;
  const ModelSpec spec_;
  const Numerics numerics_;
  const cudnnRNNBiasMode_t bias_mode_;
  const cudaStream_t stream_;
  CudnnHandle handle_;
  Stream side_stream_;
  CudnnHandle side_handle_;
  DropoutDescriptor no_dropout_;
};

// Scratch memory of one stream's passes, which run one after another; as large as the most demanding one needs.
class Workspace {
 public:
  explicit Workspace(MemoryAccount& account) : account_(&account) {}
  // Call before queueing any pass that uses it.
  void require(std::size_t bytes);
  void* data() const { return buffer_.data(); }
  std::size_t bytes() const { return buffer_.bytes(); }

 private:
  MemoryAccount* account_;
  DeviceBuffer buffer_;
};

// Passes of one algorithm, layer range and shape (T, B), with the reserve that connects their halves. F: features of
// the range's first layer; L: its layers. All pointers are to device memory.
class RnnPass {
 public:
  // workspace: the lane's; must outlive the pass. Throws Error(kOutOfMemory).
  RnnPass(const Rnn& rnn, cudnnRNNAlgo_t algorithm, RnnDescriptor descriptor, const LayerRange& range, int steps,
          int batch, bool training, int lane, Workspace& workspace, MemoryAccount& account);

  // A recurrent state or its gradient: h and c, each [L, B, H]; null for zero, or for none if it is a result.
  template <class Pointer>
  struct HidAndCell {
    Pointer h = nullptr;
    Pointer c = nullptr;
  };
  using From = HidAndCell<const void*>;
  using Into = HidAndCell<void*>;

  // Computes y [T, B, H] and the final state from x [T, B, F] and the initial state.
  void forward(const void* weights, const void* x, void* y, const From& start, const Into& end) const;
  // Computes dx and the initial state's gradient from dy and the final state's gradient. Changes the reserve: call
  // before backward_weights.
  void backward_data(const void* weights, const void* y, const void* dy, void* dx, const From& start,
                     const From& end_gradient, const Into& start_gradient) const;
  // Adds to dweights.
  void backward_weights(const void* x, const From& start, const void* y, void* dweights) const;

  cudnnRNNDescriptor_t descriptor() const { return descriptor_.get(); }

 private:
  const Rnn* rnn_;
  cudnnForwardMode_t mode_;
  std::size_t weight_bytes_;
  RnnDescriptor descriptor_;
  RnnDataDescriptor x_, y_;
  TensorDescriptor state_;
  int lane_;
  Workspace* workspace_;
  DeviceBuffer reserve_;
};

const char* algorithm_title(cudnnRNNAlgo_t algorithm);
// Standard for Algorithm::automatic.
cudnnRNNAlgo_t cudnn_algorithm(Algorithm algorithm);

}  // namespace cudnn_lstm::cuda
