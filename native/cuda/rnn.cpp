#include "cuda/rnn.h"

#include <algorithm>
#include <cstdint>

namespace cudnn_lstm::cuda {
namespace {

template <class Handle>
Owned<Handle, cudnnStatus_t> make(const Libraries& libraries, cudnnStatus_t (*create)(Handle*),
                                  cudnnStatus_t (*destroy)(Handle), const char* call) {
  Handle handle = nullptr;
  const cudnnStatus_t status = create(&handle);
  if (status != CUDNN_STATUS_SUCCESS) {
    const int code = static_cast<int>(status);
    fail_library("cuDNN", code, libraries.cudnn.cudnnGetErrorString(status), code == 4003 || code == 4004, call,
                 __FILE__, __LINE__);
  }
  return {handle, destroy};
}

#define MAKE(libraries, What) \
  make((libraries), (libraries).cudnn.cudnnCreate##What, (libraries).cudnn.cudnnDestroy##What, "cudnnCreate" #What)

bool is_unsupported(cudnnStatus_t status) {
  if (status == CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER) return false;          // this backend's fault
  if (status == CUDNN_STATUS_NOT_SUPPORTED_SUBLIBRARY_UNAVAILABLE) return false;  // the installation's
  const int category = static_cast<int>(status) / 1000 * 1000;
  return category == 2000 || category == 3000;  // BAD_PARAM, NOT_SUPPORTED and their kinds
}

}  // namespace

Numerics numerics_of(Precision precision, int compute_capability_major) {
  switch (precision) {
    case Precision::bf16:
      // bfloat16 products run only on tensor cores, so the default means those.
      return {CUDNN_DATA_BFLOAT16, CUDNN_DEFAULT_MATH, CUDA_R_16BF, CUBLAS_COMPUTE_32F, 2, "bf16"};
    case Precision::fp16:
      return {CUDNN_DATA_HALF, CUDNN_TENSOR_OP_MATH, CUDA_R_16F, CUBLAS_COMPUTE_32F, 2, "fp16"};
    case Precision::tf32:
      // Tensor cores take TF32 from compute capability 8.0 on; below, these are fp32 products, and the summary says so.
      if (compute_capability_major >= 8) {
        return {CUDNN_DATA_FLOAT, CUDNN_DEFAULT_MATH, CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32, 4, "tf32"};
      }
      break;
    case Precision::fp32:
      break;
  }
  return {CUDNN_DATA_FLOAT, CUDNN_FMA_MATH, CUDA_R_32F, CUBLAS_COMPUTE_32F, 4, "fp32"};
}

const char* algorithm_title(cudnnRNNAlgo_t algorithm) {
  switch (algorithm) {
    case CUDNN_RNN_ALGO_PERSIST_STATIC:
      return "persist-static";
    case CUDNN_RNN_ALGO_PERSIST_DYNAMIC:
      return "persist-dynamic";
    case CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H:
      return "persist-static-small-h";
    default:
      return "standard";
  }
}

cudnnRNNAlgo_t cudnn_algorithm(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::persist_static:
      return CUDNN_RNN_ALGO_PERSIST_STATIC;
    case Algorithm::persist_dynamic:
      return CUDNN_RNN_ALGO_PERSIST_DYNAMIC;
    case Algorithm::persist_static_small_h:
      return CUDNN_RNN_ALGO_PERSIST_STATIC_SMALL_H;
    default:
      return CUDNN_RNN_ALGO_STANDARD;
  }
}

Rnn::Rnn(std::shared_ptr<const Libraries> libraries, const ModelSpec& spec, const Numerics& numerics, bool persistent,
         bool two_streams, cudaStream_t stream)
    : libraries_(std::move(libraries)),
      spec_(spec),
      numerics_(numerics),
      // The model has one bias vector per layer. With two, the second stays zero: its gradient is cleared before the
      // optimiser sees it (if both were trained, Adam would move their sum twice as far).
      bias_mode_(persistent ? CUDNN_RNN_DOUBLE_BIAS : CUDNN_RNN_SINGLE_INP_BIAS),
      stream_(stream),
      handle_(make_handle(stream)) {
  if (two_streams) {
    side_stream_ = make_stream(true);
    side_handle_ = make_handle(side_stream_.get());
  }
  no_dropout_ = MAKE(*libraries_, DropoutDescriptor);
  CHECK_CUDNN(*libraries_, cudnnSetDropoutDescriptor(no_dropout_.get(), handle_.get(), 0.0f, nullptr, 0, 0));
  if (!make_descriptor(CUDNN_RNN_ALGO_STANDARD, all_layers())) {
    throw Error(kInvalidArgument, std::string("cuDNN ") + libraries_->cudnn_version.version + " has no LSTM in " +
                                      numerics_.title + " of this shape: choose another precision");
  }
}

CudnnHandle Rnn::make_handle(cudaStream_t stream) const {
  CudnnHandle handle = make(*libraries_, libraries_->cudnn.cudnnCreate, libraries_->cudnn.cudnnDestroy, "cudnnCreate");
  CHECK_CUDNN(*libraries_, cudnnSetStream(handle.get(), stream));
  return handle;
}

RnnDescriptor Rnn::make_descriptor(cudnnRNNAlgo_t algorithm, const LayerRange& range) const {
  RnnDescriptor descriptor = MAKE(*libraries_, RNNDescriptor);
  const cudnnStatus_t status = libraries_->cudnn.cudnnSetRNNDescriptor_v8(
      descriptor.get(), algorithm, CUDNN_LSTM, bias_mode_, CUDNN_UNIDIRECTIONAL, CUDNN_LINEAR_INPUT, numerics_.type,
      CUDNN_DATA_FLOAT, numerics_.math, features(range), spec_.hidden, spec_.hidden, range.count, no_dropout_.get(),
      CUDNN_RNN_PADDED_IO_ENABLED);
  if (is_unsupported(status)) return {};
  if (status != CUDNN_STATUS_SUCCESS) {
    fail_library("cuDNN", static_cast<int>(status), libraries_->cudnn.cudnnGetErrorString(status), false,
                 "cudnnSetRNNDescriptor_v8", __FILE__, __LINE__);
  }
  return descriptor;
}

std::size_t Rnn::weight_elements(cudnnRNNDescriptor_t descriptor) const {
  std::size_t bytes = 0;
  CHECK_CUDNN(*libraries_, cudnnGetRNNWeightSpaceSize(handle_.get(), descriptor, &bytes));
  return (bytes + numerics_.bytes - 1) / numerics_.bytes;
}

WeightMap Rnn::weight_map(cudnnRNNDescriptor_t descriptor, const LayerRange& range, const Layout& layout,
                          const void* weights) const {
  const std::size_t hidden = static_cast<std::size_t>(spec_.hidden);
  const std::size_t space = weight_elements(descriptor);
  const TensorDescriptor matrix = MAKE(*libraries_, TensorDescriptor);
  const TensorDescriptor bias = MAKE(*libraries_, TensorDescriptor);
  auto elements_of = [&](const TensorDescriptor& tensor) {
    cudnnDataType_t type;
    int dimensions = 0, sizes[8] = {}, strides[8] = {};
    CHECK_CUDNN(*libraries_, cudnnGetTensorNdDescriptor(tensor.get(), 3, &type, &dimensions, sizes, strides));
    std::size_t elements = 1;
    for (int i = 0; i < dimensions && i < 3; ++i) elements *= static_cast<std::size_t>(sizes[i]);
    return type == numerics_.type ? elements : 0;
  };
  auto segment = [&](std::size_t canonical, const void* address, const TensorDescriptor& tensor, std::size_t size) {
    const std::size_t bytes =
        static_cast<std::size_t>(static_cast<const char*>(address) - static_cast<const char*>(weights));
    if (address == nullptr || elements_of(tensor) != size || bytes % numerics_.bytes != 0 ||
        bytes / numerics_.bytes + size > space) {
      throw Error(kDeviceFailed,
                  "cuDNN " + libraries_->cudnn_version.version + " lays out its LSTM weights in an unknown way");
    }
    return Segment{canonical, bytes / numerics_.bytes, size};
  };
  WeightMap map;
  for (int layer = 0; layer < range.count; ++layer) {
    const Parameter& input = layout.weight_ih(range.first + layer);
    const Parameter& recurrent = layout.weight_hh(range.first + layer);
    const std::size_t features = input.size / (4 * hidden);
    // 0..3: the input matrices i, f, g, o with their biases; 4..7: the recurrent ones.
    for (int part = 0; part < 8; ++part) {
      void* matrix_at = nullptr;
      void* bias_at = nullptr;
      CHECK_CUDNN(*libraries_, cudnnGetRNNWeightParams(handle_.get(), descriptor, layer, space * numerics_.bytes,
                                                       weights, part, matrix.get(), &matrix_at, bias.get(), &bias_at));
      const std::size_t gate = static_cast<std::size_t>(part % 4);
      if (part < 4) {
        map.parameters.push_back(
            segment(input.offset + gate * hidden * features, matrix_at, matrix, hidden * features));
        map.parameters.push_back(
            segment(layout.bias(range.first + layer).offset + gate * hidden, bias_at, bias, hidden));
      } else {
        map.parameters.push_back(
            segment(recurrent.offset + gate * hidden * hidden, matrix_at, matrix, hidden * hidden));
        if (bias_at != nullptr) map.frozen.push_back(segment(0, bias_at, bias, hidden));
      }
    }
  }
  std::sort(map.frozen.begin(), map.frozen.end(), [](const Segment& a, const Segment& b) { return a.arena < b.arena; });
  std::vector<Segment> merged;
  for (const Segment& each : map.frozen) {
    if (!merged.empty() && merged.back().arena + merged.back().size == each.arena) {
      merged.back().size += each.size;
    } else {
      merged.push_back(each);
    }
  }
  map.frozen = std::move(merged);
  return map;
}

void Workspace::require(std::size_t bytes) {
  if (bytes <= buffer_.bytes()) return;
  buffer_ = {};
  buffer_ = DeviceBuffer(*account_, bytes, "cuDNN's workspace");
}

RnnPass::RnnPass(const Rnn& rnn, cudnnRNNAlgo_t algorithm, RnnDescriptor descriptor, const LayerRange& range, int steps,
                 int batch, bool training, int lane, Workspace& workspace, MemoryAccount& account)
    : rnn_(&rnn),
      mode_(training ? CUDNN_FWD_MODE_TRAINING : CUDNN_FWD_MODE_INFERENCE),
      weight_bytes_(rnn.weight_elements(descriptor.get()) * rnn.numerics().bytes),
      descriptor_(std::move(descriptor)),
      lane_(lane),
      workspace_(&workspace) {
  const Libraries& libraries = rnn.libraries();
  const ModelSpec& spec = rnn.spec();
  const cudnnDataType_t type = rnn.numerics().type;
  if (static_cast<std::int64_t>(batch) * spec.hidden > INT32_MAX) {
    throw Error(kInvalidArgument, "cuDNN counts a layer's state in 31 bits, too few for a batch of " +
                                      std::to_string(batch) + " with " + std::to_string(spec.hidden) +
                                      " units: use a smaller batch");
  }
  const std::vector<int> lengths(static_cast<std::size_t>(batch), steps);
  x_ = MAKE(libraries, RNNDataDescriptor);
  y_ = MAKE(libraries, RNNDataDescriptor);
  CHECK_CUDNN(libraries, cudnnSetRNNDataDescriptor(x_.get(), type, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED, steps,
                                                   batch, rnn.features(range), lengths.data(), nullptr));
  CHECK_CUDNN(libraries, cudnnSetRNNDataDescriptor(y_.get(), type, CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED, steps,
                                                   batch, spec.hidden, lengths.data(), nullptr));
  state_ = MAKE(libraries, TensorDescriptor);
  const int sizes[] = {range.count, batch, spec.hidden};
  const int strides[] = {batch * spec.hidden, spec.hidden, 1};
  CHECK_CUDNN(libraries, cudnnSetTensorNdDescriptor(state_.get(), type, 3, sizes, strides));
  if (algorithm == CUDNN_RNN_ALGO_PERSIST_DYNAMIC) {
    CHECK_CUDNN(libraries, cudnnBuildRNNDynamic(rnn.handle(lane), descriptor_.get(), batch));
  }
  std::size_t work = 0, reserve = 0;
  CHECK_CUDNN(libraries,
              cudnnGetRNNTempSpaceSizes(rnn.handle(lane), descriptor_.get(), mode_, x_.get(), &work, &reserve));
  workspace.require(work);
  reserve_ = DeviceBuffer(account, reserve, "cuDNN's reserve (the activations kept for the gradient)");
}

void RnnPass::forward(const void* weights, const void* x, void* y, const From& start, const Into& end) const {
  CHECK_CUDNN(rnn_->libraries(),
              cudnnRNNForward(rnn_->handle(lane_), descriptor_.get(), mode_, nullptr, x_.get(), x, y_.get(), y,
                              state_.get(), start.h, end.h, state_.get(), start.c, end.c, weight_bytes_, weights,
                              workspace_->bytes(), workspace_->data(), reserve_.bytes(), reserve_.data()));
}

void RnnPass::backward_data(const void* weights, const void* y, const void* dy, void* dx, const From& start,
                            const From& end_gradient, const Into& start_gradient) const {
  CHECK_CUDNN(rnn_->libraries(),
              cudnnRNNBackwardData_v8(rnn_->handle(lane_), descriptor_.get(), nullptr, y_.get(), y, dy, x_.get(), dx,
                                      state_.get(), start.h, end_gradient.h, start_gradient.h, state_.get(), start.c,
                                      end_gradient.c, start_gradient.c, weight_bytes_, weights, workspace_->bytes(),
                                      workspace_->data(), reserve_.bytes(), reserve_.data()));
}

void RnnPass::backward_weights(const void* x, const From& start, const void* y, void* dweights) const {
  CHECK_CUDNN(rnn_->libraries(),
              cudnnRNNBackwardWeights_v8(rnn_->handle(lane_), descriptor_.get(), CUDNN_WGRAD_MODE_ADD, nullptr,
                                         x_.get(), x, state_.get(), start.h, y_.get(), y, weight_bytes_, dweights,
                                         workspace_->bytes(), workspace_->data(), reserve_.bytes(), reserve_.data()));
}

}  // namespace cudnn_lstm::cuda
