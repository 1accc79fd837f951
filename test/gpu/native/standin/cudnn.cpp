// cuDNN's calls that the backend uses: an LSTM in double on host memory, from the published equations, with a weight
// layout and a reserve of its own, so that a backend which assumes any of them fails. Order of calls is checked as the
// work runs: forward, then BackwardData, then BackwardWeights, each of the pass that the reserve is from.
#include <cudnn.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <thread>

#include "numbers.h"
#include "standin.h"

namespace {

struct Dropout {
  bool set = false;
};
struct Rnn {
  cudnnRNNAlgo_t algorithm = CUDNN_RNN_ALGO_STANDARD;
  standin::Type type = standin::Type::float32;
  int in = 0, hidden = 0, layers = 0, built_for = 0;
  int biases = 4;  // vectors of H a layer: 8 with a second bias for the recurrent matrices
  bool operator==(const Rnn& o) const {
    return algorithm == o.algorithm && type == o.type && in == o.in && hidden == o.hidden && layers == o.layers &&
           biases == o.biases;
  }
};
struct Data {
  standin::Type type = standin::Type::float32;
  int steps = 0, batch = 0, width = 0;
  bool is(standin::Type t, int s, int b, int w) const { return type == t && steps == s && batch == b && width == w; }
};
struct Tensor {
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  int sizes[3] = {}, strides[3] = {};
};
struct Handle {
  cudaStream_t stream = nullptr;
};

template <class T, class Opaque>
T* as(Opaque opaque) {
  return reinterpret_cast<T*>(opaque);
}

standin::Type type_of(cudnnDataType_t type) {
  return type == CUDNN_DATA_FLOAT  ? standin::Type::float32
         : type == CUDNN_DATA_HALF ? standin::Type::float16
                                   : standin::Type::bfloat16;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// Recurrent matrices first, then the input's, each followed by a gap of three values; all biases at the end.
struct WeightLayout {
  explicit WeightLayout(const Rnn& rnn) : rnn_(rnn) {}
  int features(int layer) const { return layer == 0 ? rnn_.in : rnn_.hidden; }
  std::size_t matrix(int layer, int part) const {
    std::size_t offset = 0;
    for (int l = 0; l < layer; ++l) offset += layer_size(l);
    const std::size_t hidden = rnn_.hidden;
    if (part >= 4) return offset + (part - 4) * (hidden * hidden + 3);
    return offset + 4 * (hidden * hidden + 3) + part * (hidden * features(layer) + 3);
  }
  std::size_t bias(int layer, int part) const {
    std::size_t offset = 0;
    for (int l = 0; l < rnn_.layers; ++l) offset += layer_size(l);
    return offset + (static_cast<std::size_t>(layer) * rnn_.biases + part) * rnn_.hidden;
  }
  std::size_t size() const { return bias(rnn_.layers, 0); }

 private:
  std::size_t layer_size(int layer) const {
    const std::size_t hidden = rnn_.hidden;
    return 4 * (hidden * hidden + 3) + 4 * (hidden * features(layer) + 3);
  }
  const Rnn& rnn_;
};

// The reserve: what it is from, then for each layer, tick, sequence and unit: i f g o (later their gradients), c, h.
constexpr int kPerUnit = 6;
struct ReserveHead {
  std::uint64_t magic;  // kReserve in a reserve of a training pass
  int last;             // the latest call: 1 forward, 2 BackwardData, 3 BackwardWeights
  int steps, batch;
  Rnn rnn;
};
constexpr std::uint64_t kReserve = 0x7265736572766521;
constexpr std::size_t kHead = (sizeof(ReserveHead) + sizeof(double) - 1) / sizeof(double);

struct Reserve {
  double* data;
  int steps, batch, hidden;
  double* unit(int layer, int t, int b, int u) const {
    return data + kHead + (((static_cast<std::size_t>(layer) * steps + t) * batch + b) * hidden + u) * kPerUnit;
  }
  static std::size_t bytes(const Rnn& rnn, const Data& x) {
    return (kHead + static_cast<std::size_t>(rnn.layers) * x.steps * x.batch * rnn.hidden * kPerUnit) * sizeof(double);
  }
  void begin(const Rnn& rnn) const { *reinterpret_cast<ReserveHead*>(data) = {kReserve, 1, steps, batch, rnn}; }
  // The call `next` on this reserve. A fault unless the pass is this one and the call before it the right one.
  bool go_on(const Rnn& rnn, int next) const {
    ReserveHead& head = *reinterpret_cast<ReserveHead*>(data);
    const char* name = next == 2 ? "BackwardData" : "BackwardWeights";
    if (head.magic != kReserve) {
      standin::fault(std::string(name) + " on a reserve of no training pass");
    } else if (!(head.rnn == rnn) || head.steps != steps || head.batch != batch) {
      standin::fault(std::string(name) + " on the reserve of another pass");
    } else if (head.last != next - 1) {
      standin::fault(std::string(name) + (next == 2 ? " without a forward pass" : " without BackwardData") + " before it");
    } else {
      head.last = next;
      return true;
    }
    return false;
  }
};

bool is_persistent(const Rnn& rnn) { return rnn.algorithm != CUDNN_RNN_ALGO_STANDARD; }

double persistent_error() {
  const standin::Settings& settings = standin::settings();
  const bool wrong = settings.persist_wrong || (settings.persist_wrong_in_graphs && standin::in_graph());
  return wrong ? 0.5 : settings.persist_rounds * 0.01;
}

// Some algorithms launch in a way that a capture does not take.
bool refused(const Rnn& rnn, const char* name) {
  return is_persistent(rnn) && !standin::settings().persist_recordable && standin::refuse_in_capture(name);
}

void run_clock(const Rnn& rnn) {
  standin::advance_clock(is_persistent(rnn) ? 1.0 / standin::settings().persist_speedup : 1.0);
}

// STANDIN_FAULT in the environment makes this a broken cuDNN: "wrong" outputs (by half a percent), "abort", "hang" or "slow".
std::string fault_asked() {
  const char* fault = std::getenv("STANDIN_FAULT");
  return fault == nullptr ? "" : fault;
}

void break_down() {
  const std::string fault = fault_asked();
  if (fault == "abort") {
    std::fputs("stand-in: an assertion failed\n", stderr);
    std::abort();
  }
  if (fault == "slow") std::this_thread::sleep_for(std::chrono::milliseconds(200));
  while (fault == "hang") std::this_thread::sleep_for(std::chrono::seconds(1));
}

// A layer's weights as numbers: input matrices [4][H, F], recurrent matrices [4][H, H], biases [4 or 8][H].
struct LayerWeights {
  LayerWeights(const Rnn& rnn, const void* weights, int layer) {
    const WeightLayout layout(rnn);
    const std::size_t hidden = rnn.hidden;
    for (int part = 0; part < 8; ++part) {
      const std::size_t size = hidden * (part < 4 ? layout.features(layer) : rnn.hidden);
      matrix[part] = standin::load_all(rnn.type, weights, layout.matrix(layer, part), size);
      if (part < rnn.biases) bias[part] = standin::load_all(rnn.type, weights, layout.bias(layer, part), hidden);
    }
  }
  std::vector<double> matrix[8], bias[8];
};

// h or c of a layer's sequences [B, H] before the first tick; null is zero.
std::vector<double> state_before(const Rnn& rnn, const void* state, int layer, int batch) {
  const std::size_t rows = static_cast<std::size_t>(batch) * rnn.hidden;
  return state == nullptr ? std::vector<double>(rows) : standin::load_all(rnn.type, state, layer * rows, rows);
}

// A layer's input [T, B, F]: x, or what the layer below gave.
std::vector<double> input_of(const Rnn& rnn, const Reserve& reserve, const void* x, int layer) {
  const std::size_t positions = static_cast<std::size_t>(reserve.steps) * reserve.batch;
  if (layer == 0) return standin::load_all(rnn.type, x, 0, positions * rnn.in);
  std::vector<double> values(positions * rnn.hidden);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = reserve.unit(layer - 1, 0, 0, 0)[i * kPerUnit + 5];
  return values;
}

void forward(const Rnn& rnn, bool training, const Data& xd, const void* x, void* y, const void* hx, void* hy,
             const void* cx, void* cy, const void* w, double* reserve_data) {
  run_clock(rnn);
  const WeightLayout layout(rnn);
  const int H = rnn.hidden, T = xd.steps, B = xd.batch;
  std::vector<double> scratch;
  if (!training) scratch.resize(Reserve::bytes(rnn, xd) / sizeof(double));
  const Reserve reserve{training ? reserve_data : scratch.data(), T, B, H};
  const double factor = fault_asked() == "wrong" ? 1.005 : 1;
  const double wrong = is_persistent(rnn) ? persistent_error() : 0;
  for (int l = 0; l < rnn.layers; ++l) {
    const int in = layout.features(l);
    const LayerWeights weights(rnn, w, l);
    const std::vector<double> input = input_of(rnn, reserve, x, l), c_start = state_before(rnn, cx, l, B);
    std::vector<double> h = state_before(rnn, hx, l, B), h_next(h.size());
    for (int t = 0; t < T; ++t) {
      for (int b = 0; b < B; ++b) {
        const double* below = &input[(static_cast<std::size_t>(t) * B + b) * in];
        for (int u = 0; u < H; ++u) {
          double gates[4];
          for (int g = 0; g < 4; ++g) {
            double sum = weights.bias[g][u] + (rnn.biases == 8 ? weights.bias[4 + g][u] : 0);
            sum = standin::add_products(sum, &weights.matrix[g][static_cast<std::size_t>(u) * in], below, in);
            sum = standin::add_products(sum, &weights.matrix[4 + g][static_cast<std::size_t>(u) * H],
                                        &h[static_cast<std::size_t>(b) * H], H);
            gates[g] = g == 2 ? std::tanh(sum) : sigmoid(sum);
          }
          const std::size_t bu = static_cast<std::size_t>(b) * H + u;
          const double c_before = t > 0 ? reserve.unit(l, t - 1, b, u)[4] : c_start[bu];
          double* cell = reserve.unit(l, t, b, u);
          std::memcpy(cell, gates, sizeof gates);
          cell[4] = gates[1] * c_before + gates[0] * gates[2];
          cell[5] = h_next[bu] = gates[3] * std::tanh(cell[4]);
          if (l + 1 == rnn.layers) {
            standin::store(rnn.type, y, static_cast<std::size_t>(t) * B * H + bu, factor * cell[5] + wrong);
          }
          if (t + 1 == T) {
            if (hy != nullptr) standin::store(rnn.type, hy, static_cast<std::size_t>(l) * B * H + bu, cell[5]);
            if (cy != nullptr) standin::store(rnn.type, cy, static_cast<std::size_t>(l) * B * H + bu, cell[4]);
          }
        }
      }
      std::swap(h, h_next);
    }
  }
  if (training) reserve.begin(rnn);
}

void backward_data(const Rnn& rnn, const Data& xd, const void* y, const void* dy, void* dx, const void* cx,
                   const void* dhy, const void* dcy, void* dhx, void* dcx, const void* w, double* reserve_data) {
  run_clock(rnn);
  const WeightLayout layout(rnn);
  const int H = rnn.hidden, T = xd.steps, B = xd.batch;
  const Reserve reserve{reserve_data, T, B, H};
  if (!reserve.go_on(rnn, 2)) return;
  standin::load(rnn.type, y, 0);
  std::vector<double> from_above = standin::load_all(rnn.type, dy, 0, static_cast<std::size_t>(T) * B * H);
  for (int l = rnn.layers - 1; l >= 0; --l) {
    const int in = layout.features(l);
    const std::size_t rows = static_cast<std::size_t>(B) * H;
    const LayerWeights weights(rnn, w, l);
    const std::vector<double> c_start = state_before(rnn, cx, l, B);
    std::vector<double> dh = state_before(rnn, dhy, l, B), dc = state_before(rnn, dcy, l, B);
    std::vector<double> below(static_cast<std::size_t>(T) * B * in);
    for (int t = T - 1; t >= 0; --t) {
      for (int b = 0; b < B; ++b)
        for (int u = 0; u < H; ++u) {
          double* cell = reserve.unit(l, t, b, u);
          const std::size_t bu = static_cast<std::size_t>(b) * H + u;
          const double total = from_above[static_cast<std::size_t>(t) * B * H + bu] + dh[bu];
          const double i = cell[0], f = cell[1], g = cell[2], o = cell[3], tanh_c = std::tanh(cell[4]);
          const double c_before = t > 0 ? reserve.unit(l, t - 1, b, u)[4] : c_start[bu];
          const double d = dc[bu] + total * o * (1 - tanh_c * tanh_c);
          cell[3] = total * tanh_c * o * (1 - o);
          cell[0] = d * g * i * (1 - i);
          cell[1] = d * c_before * f * (1 - f);
          cell[2] = d * i * (1 - g * g);
          dc[bu] = d * f;
        }
      std::fill(dh.begin(), dh.end(), 0.0);
      for (int b = 0; b < B; ++b) {
        double* dh_row = &dh[static_cast<std::size_t>(b) * H];
        double* below_row = &below[(static_cast<std::size_t>(t) * B + b) * in];
        for (int u = 0; u < H; ++u)
          for (int g = 0; g < 4; ++g) {
            const double d = reserve.unit(l, t, b, u)[g];
            const double* recurrent = &weights.matrix[4 + g][static_cast<std::size_t>(u) * H];
            const double* input = &weights.matrix[g][static_cast<std::size_t>(u) * in];
            for (int k = 0; k < H; ++k) dh_row[k] += recurrent[k] * d;
            for (int k = 0; k < in; ++k) below_row[k] += input[k] * d;
          }
      }
    }
    for (std::size_t i = 0; i < rows; ++i) {
      if (dhx != nullptr) standin::store(rnn.type, dhx, l * rows + i, dh[i]);
      if (dcx != nullptr) standin::store(rnn.type, dcx, l * rows + i, dc[i]);
    }
    from_above = std::move(below);
  }
  for (std::size_t i = 0; i < from_above.size(); ++i) standin::store(rnn.type, dx, i, from_above[i]);
}

void backward_weights(const Rnn& rnn, const Data& xd, const void* x, const void* hx, void* dw, double* reserve_data) {
  run_clock(rnn);
  const WeightLayout layout(rnn);
  const int H = rnn.hidden, T = xd.steps, B = xd.batch;
  const Reserve reserve{reserve_data, T, B, H};
  if (!reserve.go_on(rnn, 3)) return;
  auto add = [&](std::size_t i, double value) {
    standin::store(rnn.type, dw, i, standin::load(rnn.type, dw, i) + value);
  };
  for (int l = 0; l < rnn.layers; ++l) {
    const int in = layout.features(l);
    const std::vector<double> below = input_of(rnn, reserve, x, l);
    // h before each tick.
    std::vector<double> before = state_before(rnn, hx, l, B);
    const std::vector<double> after = input_of(rnn, reserve, nullptr, l + 1);
    before.insert(before.end(), after.begin(), after.end());
    for (int g = 0; g < 4; ++g)
      for (int u = 0; u < H; ++u) {
        double bias = 0;
        std::vector<double> input(in), recurrent(H);
        for (int t = 0; t < T; ++t)
          for (int b = 0; b < B; ++b) {
            const double d = reserve.unit(l, t, b, u)[g];
            const std::size_t position = static_cast<std::size_t>(t) * B + b;
            bias += d;
            for (int k = 0; k < in; ++k) input[k] += d * below[position * in + k];
            for (int k = 0; k < H; ++k) recurrent[k] += d * before[position * H + k];
          }
        add(layout.bias(l, g) + u, bias);
        if (rnn.biases == 8) add(layout.bias(l, 4 + g) + u, bias);
        for (int k = 0; k < in; ++k) add(layout.matrix(l, g) + static_cast<std::size_t>(u) * in + k, input[k]);
        for (int k = 0; k < H; ++k) add(layout.matrix(l, 4 + g) + static_cast<std::size_t>(u) * H + k, recurrent[k]);
      }
  }
}

template <class T, class Opaque>
cudnnStatus_t create(const char* name, Opaque* opaque) {
  const int status = standin::enter(name);
  if (status != 0) return static_cast<cudnnStatus_t>(status);
  *opaque = reinterpret_cast<Opaque>(new T);
  standin::count_object(1);
  return CUDNN_STATUS_SUCCESS;
}
template <class T, class Opaque>
cudnnStatus_t destroy(const char* name, Opaque opaque) {
  delete as<T>(opaque);
  standin::count_object(-1);
  return static_cast<cudnnStatus_t>(standin::enter(name));
}

void expect_device(const char* what, const void* data, std::size_t bytes) {
  if (bytes > 0 && !standin::is_device(data, bytes)) standin::fault(std::string(what) + " is not in device memory");
}

constexpr std::size_t kWorkBytes = 1024;

// What every call asks of its arguments' shapes.
bool shapes_fit(const Rnn& rnn, const Data& x, const Data& y, const Tensor& h, std::size_t weight_bytes,
                std::size_t work_bytes) {
  const int state[] = {rnn.layers, x.batch, rnn.hidden};
  const int strides[] = {x.batch * rnn.hidden, rnn.hidden, 1};
  return x.is(rnn.type, x.steps, x.batch, rnn.in) && y.is(rnn.type, x.steps, x.batch, rnn.hidden) &&
         type_of(h.type) == rnn.type && std::equal(state, state + 3, h.sizes) &&
         std::equal(strides, strides + 3, h.strides) &&
         weight_bytes == WeightLayout(rnn).size() * standin::size_of(rnn.type) && work_bytes >= kWorkBytes;
}

// Null is no tensor.
bool all_aligned(const Rnn& rnn, std::initializer_list<const void*> tensors) {
  for (const void* data : tensors) {
    if (standin::is_aligned(rnn.type, data)) continue;
    standin::fault("a tensor of cuDNN's is not aligned");
    return false;
  }
  return true;
}

std::string shape_of(const Data& x) { return "T" + std::to_string(x.steps) + " B" + std::to_string(x.batch); }

}  // namespace

#define ENTER(...)                                                      \
  const standin::Lock lock;                                               \
  const int entry = standin::enter(__func__, std::string{__VA_ARGS__}); \
  if (entry != 0) return static_cast<cudnnStatus_t>(entry)

extern "C" {

// STANDIN_CUDNN in the environment: another version.
STANDIN_API std::size_t cudnnGetVersion() {
  const char* version = std::getenv("STANDIN_CUDNN");
  return version == nullptr ? 92400 : std::strtoul(version, nullptr, 10);
}
STANDIN_API cudnnStatus_t cudnnGraphVersionCheck() { return static_cast<cudnnStatus_t>(standin::enter(__func__)); }
STANDIN_API cudnnStatus_t cudnnOpsVersionCheck() { return static_cast<cudnnStatus_t>(standin::enter(__func__)); }
STANDIN_API cudnnStatus_t cudnnCnnVersionCheck() { return static_cast<cudnnStatus_t>(standin::enter(__func__)); }
STANDIN_API cudnnStatus_t cudnnAdvVersionCheck() { return static_cast<cudnnStatus_t>(standin::enter(__func__)); }
STANDIN_API const char* cudnnGetErrorString(cudnnStatus_t) { return "CUDNN_STATUS_INJECTED"; }
STANDIN_API cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) { return create<Handle>(__func__, handle); }
STANDIN_API cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) { return destroy<Handle>(__func__, handle); }
STANDIN_API cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  ENTER();
  as<Handle>(handle)->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}
STANDIN_API cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t* d) {
  return create<Tensor>(__func__, d);
}
STANDIN_API cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t d) { return destroy<Tensor>(__func__, d); }
STANDIN_API cudnnStatus_t cudnnCreateDropoutDescriptor(cudnnDropoutDescriptor_t* d) {
  return create<Dropout>(__func__, d);
}
STANDIN_API cudnnStatus_t cudnnDestroyDropoutDescriptor(cudnnDropoutDescriptor_t d) { return destroy<Dropout>(__func__, d); }
STANDIN_API cudnnStatus_t cudnnCreateRNNDescriptor(cudnnRNNDescriptor_t* d) { return create<Rnn>(__func__, d); }
STANDIN_API cudnnStatus_t cudnnDestroyRNNDescriptor(cudnnRNNDescriptor_t d) { return destroy<Rnn>(__func__, d); }
STANDIN_API cudnnStatus_t cudnnCreateRNNDataDescriptor(cudnnRNNDataDescriptor_t* d) {
  return create<Data>(__func__, d);
}
STANDIN_API cudnnStatus_t cudnnDestroyRNNDataDescriptor(cudnnRNNDataDescriptor_t d) { return destroy<Data>(__func__, d); }

STANDIN_API cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t descriptor, cudnnDataType_t type,
                                                     int count, const int sizes[], const int strides[]) {
  ENTER();
  if (count != 3) return CUDNN_STATUS_BAD_PARAM;
  Tensor& tensor = *as<Tensor>(descriptor);
  tensor.type = type;
  std::memcpy(tensor.sizes, sizes, sizeof tensor.sizes);
  std::memcpy(tensor.strides, strides, sizeof tensor.strides);
  return CUDNN_STATUS_SUCCESS;
}
STANDIN_API cudnnStatus_t cudnnGetTensorNdDescriptor(const cudnnTensorDescriptor_t descriptor, int,
                                                     cudnnDataType_t* type, int* count, int sizes[], int strides[]) {
  ENTER();
  const Tensor& tensor = *as<Tensor>(descriptor);
  *type = tensor.type;
  *count = 3;
  std::memcpy(sizes, tensor.sizes, sizeof tensor.sizes);
  std::memcpy(strides, tensor.strides, sizeof tensor.strides);
  return CUDNN_STATUS_SUCCESS;
}
// The backend's masks are its own.
STANDIN_API cudnnStatus_t cudnnSetDropoutDescriptor(cudnnDropoutDescriptor_t descriptor, cudnnHandle_t,
                                                    float probability, void* states, std::size_t, unsigned long long) {
  ENTER();
  if (probability != 0 || states != nullptr) return CUDNN_STATUS_NOT_SUPPORTED;
  as<Dropout>(descriptor)->set = true;
  return CUDNN_STATUS_SUCCESS;
}
STANDIN_API cudnnStatus_t cudnnSetRNNDescriptor_v8(cudnnRNNDescriptor_t descriptor, cudnnRNNAlgo_t algorithm,
                                                   cudnnRNNMode_t cell, cudnnRNNBiasMode_t bias,
                                                   cudnnDirectionMode_t direction, cudnnRNNInputMode_t input,
                                                   cudnnDataType_t type, cudnnDataType_t math,
                                                   cudnnMathType_t math_type, int32_t in, int32_t hidden,
                                                   int32_t projection, int32_t layers, cudnnDropoutDescriptor_t dropout,
                                                   uint32_t flags) {
  ENTER("algorithm " + std::to_string(algorithm) + " math " + std::to_string(math_type));
  if (cell != CUDNN_LSTM || (bias != CUDNN_RNN_SINGLE_INP_BIAS && bias != CUDNN_RNN_DOUBLE_BIAS) ||
      direction != CUDNN_UNIDIRECTIONAL || input != CUDNN_LINEAR_INPUT || math != CUDNN_DATA_FLOAT ||
      projection != hidden || dropout == nullptr || !as<Dropout>(dropout)->set || flags != CUDNN_RNN_PADDED_IO_ENABLED) {
    return CUDNN_STATUS_BAD_PARAM;
  }
  // As cuDNN 9.24 does: the persistent algorithms are for two bias vectors.
  const bool persistent = standin::settings().persist_supported && bias == CUDNN_RNN_DOUBLE_BIAS;
  if (algorithm != CUDNN_RNN_ALGO_STANDARD && !persistent) return CUDNN_STATUS_NOT_SUPPORTED;
  *as<Rnn>(descriptor) = {algorithm, type_of(type), in, hidden, layers, 0, bias == CUDNN_RNN_DOUBLE_BIAS ? 8 : 4};
  return CUDNN_STATUS_SUCCESS;
}
STANDIN_API cudnnStatus_t cudnnBuildRNNDynamic(cudnnHandle_t, cudnnRNNDescriptor_t descriptor, int batch) {
  ENTER();
  if (standin::refuse_in_capture(__func__)) return CUDNN_STATUS_EXECUTION_FAILED;
  as<Rnn>(descriptor)->built_for = batch;
  return CUDNN_STATUS_SUCCESS;
}
STANDIN_API cudnnStatus_t cudnnSetRNNDataDescriptor(cudnnRNNDataDescriptor_t descriptor, cudnnDataType_t type,
                                                    cudnnRNNDataLayout_t layout, int steps, int batch, int width,
                                                    const int lengths[], void*) {
  ENTER("T" + std::to_string(steps) + " B" + std::to_string(batch) + " V" + std::to_string(width));
  if (layout != CUDNN_RNN_DATA_LAYOUT_SEQ_MAJOR_UNPACKED) return CUDNN_STATUS_NOT_SUPPORTED;
  for (int b = 0; b < batch; ++b)
    if (lengths[b] != steps) return CUDNN_STATUS_BAD_PARAM;
  *as<Data>(descriptor) = {type_of(type), steps, batch, width};
  return CUDNN_STATUS_SUCCESS;
}
STANDIN_API cudnnStatus_t cudnnGetRNNWeightSpaceSize(cudnnHandle_t, cudnnRNNDescriptor_t descriptor,
                                                     std::size_t* bytes) {
  ENTER();
  const Rnn& rnn = *as<Rnn>(descriptor);
  *bytes = WeightLayout(rnn).size() * standin::size_of(rnn.type);
  return CUDNN_STATUS_SUCCESS;
}
STANDIN_API cudnnStatus_t cudnnGetRNNWeightParams(cudnnHandle_t, cudnnRNNDescriptor_t descriptor, int32_t layer,
                                                  std::size_t bytes, const void* weights, int32_t part,
                                                  cudnnTensorDescriptor_t matrix, void** matrix_at,
                                                  cudnnTensorDescriptor_t bias, void** bias_at) {
  ENTER();
  const Rnn& rnn = *as<Rnn>(descriptor);
  const WeightLayout layout(rnn);
  const std::size_t each = standin::size_of(rnn.type);
  if (bytes < layout.size() * each) return CUDNN_STATUS_BAD_PARAM;
  char* base = static_cast<char*>(const_cast<void*>(weights));
  const cudnnDataType_t type = rnn.type == standin::Type::float32   ? CUDNN_DATA_FLOAT
                               : rnn.type == standin::Type::float16 ? CUDNN_DATA_HALF
                                                                    : CUDNN_DATA_BFLOAT16;
  *as<Tensor>(matrix) = {type, {1, rnn.hidden, part < 4 ? layout.features(layer) : rnn.hidden}, {}};
  *as<Tensor>(bias) = {type, {1, rnn.hidden, 1}, {}};
  *matrix_at = base + layout.matrix(layer, part) * each;
  *bias_at = part < rnn.biases ? base + layout.bias(layer, part) * each : nullptr;
  return CUDNN_STATUS_SUCCESS;
}
STANDIN_API cudnnStatus_t cudnnGetRNNTempSpaceSizes(cudnnHandle_t, cudnnRNNDescriptor_t descriptor,
                                                    cudnnForwardMode_t mode, cudnnRNNDataDescriptor_t x,
                                                    std::size_t* work, std::size_t* reserve) {
  ENTER();
  *work = kWorkBytes;
  *reserve = mode == CUDNN_FWD_MODE_TRAINING ? Reserve::bytes(*as<Rnn>(descriptor), *as<Data>(x)) : 0;
  return CUDNN_STATUS_SUCCESS;
}

STANDIN_API cudnnStatus_t cudnnRNNForward(cudnnHandle_t handle, cudnnRNNDescriptor_t descriptor,
                                          cudnnForwardMode_t mode, const int32_t lengths[],
                                          cudnnRNNDataDescriptor_t x_desc, const void* x,
                                          cudnnRNNDataDescriptor_t y_desc, void* y, cudnnTensorDescriptor_t h_desc,
                                          const void* hx, void* hy, cudnnTensorDescriptor_t, const void* cx, void* cy,
                                          std::size_t weight_bytes, const void* weights, std::size_t work_bytes,
                                          void* work, std::size_t reserve_bytes, void* reserve) {
  const Rnn rnn = *as<Rnn>(descriptor);
  const Data xd = *as<Data>(x_desc);
  const bool training = mode == CUDNN_FWD_MODE_TRAINING;
  break_down();
  ENTER(shape_of(xd) + (training ? " training" : " inference"));
  const std::size_t each = standin::size_of(rnn.type), positions = static_cast<std::size_t>(xd.steps) * xd.batch;
  const std::size_t state = static_cast<std::size_t>(rnn.layers) * xd.batch * rnn.hidden * each;
  if (lengths != nullptr || !shapes_fit(rnn, xd, *as<Data>(y_desc), *as<Tensor>(h_desc), weight_bytes, work_bytes) ||
      (training && reserve_bytes < Reserve::bytes(rnn, xd))) {
    standin::fault("cudnnRNNForward with arguments of another shape");
    return CUDNN_STATUS_BAD_PARAM;
  }
  if (!all_aligned(rnn, {x, y, hx, hy, cx, cy, weights, work, reserve})) return CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER;
  if (refused(rnn, __func__)) return CUDNN_STATUS_NOT_SUPPORTED;
  if (rnn.algorithm == CUDNN_RNN_ALGO_PERSIST_DYNAMIC && rnn.built_for != xd.batch) return CUDNN_STATUS_BAD_PARAM;
  expect_device("x", x, positions * rnn.in * each);
  expect_device("y", y, positions * rnn.hidden * each);
  for (const void* data : {hx, static_cast<const void*>(hy), cx, static_cast<const void*>(cy)}) {
    if (data != nullptr) expect_device("a state", data, state);
  }
  if (hx != nullptr && (hx == hy || cx == cy)) standin::fault("a state read and written in one call");
  expect_device("weights", weights, weight_bytes);
  expect_device("the workspace", work, work_bytes);
  if (training) expect_device("the reserve", reserve, reserve_bytes);
  standin::submit(as<Handle>(handle)->stream,
                  [=] { forward(rnn, training, xd, x, y, hx, hy, cx, cy, weights, static_cast<double*>(reserve)); });
  return CUDNN_STATUS_SUCCESS;
}
STANDIN_API cudnnStatus_t cudnnRNNBackwardData_v8(
    cudnnHandle_t handle, cudnnRNNDescriptor_t descriptor, const int32_t lengths[], cudnnRNNDataDescriptor_t y_desc,
    const void* y, const void* dy, cudnnRNNDataDescriptor_t x_desc, void* dx, cudnnTensorDescriptor_t h_desc,
    const void* hx, const void* dhy, void* dhx, cudnnTensorDescriptor_t, const void* cx, const void* dcy, void* dcx,
    std::size_t weight_bytes, const void* weights, std::size_t work_bytes, void* work, std::size_t reserve_bytes,
    void* reserve) {
  const Rnn rnn = *as<Rnn>(descriptor);
  const Data xd = *as<Data>(x_desc);
  ENTER(shape_of(xd));
  if (lengths != nullptr || dx == nullptr ||
      !shapes_fit(rnn, xd, *as<Data>(y_desc), *as<Tensor>(h_desc), weight_bytes, work_bytes) ||
      reserve_bytes < Reserve::bytes(rnn, xd)) {
    standin::fault("cudnnRNNBackwardData_v8 with arguments of another shape");
    return CUDNN_STATUS_BAD_PARAM;
  }
  if (!all_aligned(rnn, {y, dy, dx, hx, dhy, dhx, cx, dcy, dcx, weights, work, reserve}))
    return CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER;
  const std::size_t each = standin::size_of(rnn.type), positions = static_cast<std::size_t>(xd.steps) * xd.batch;
  expect_device("dy", dy, positions * rnn.hidden * each);
  expect_device("dx", dx, positions * rnn.in * each);
  for (const void* data : {dhy, static_cast<const void*>(dhx), dcy, static_cast<const void*>(dcx)}) {
    if (data != nullptr)
      expect_device("a state's gradient", data, static_cast<std::size_t>(rnn.layers) * xd.batch * rnn.hidden * each);
  }
  if ((dhx != nullptr && dhx == dhy) || (dcx != nullptr && dcx == dcy))
    standin::fault("a state's gradient read and written in one call");
  standin::submit(as<Handle>(handle)->stream, [=] {
    backward_data(rnn, xd, y, dy, dx, cx, dhy, dcy, dhx, dcx, weights, static_cast<double*>(reserve));
  });
  return CUDNN_STATUS_SUCCESS;
}
STANDIN_API cudnnStatus_t cudnnRNNBackwardWeights_v8(cudnnHandle_t handle, cudnnRNNDescriptor_t descriptor,
                                                     cudnnWgradMode_t mode, const int32_t lengths[],
                                                     cudnnRNNDataDescriptor_t x_desc, const void* x,
                                                     cudnnTensorDescriptor_t h_desc, const void* hx,
                                                     cudnnRNNDataDescriptor_t y_desc, const void* y,
                                                     std::size_t weight_bytes, void* dweights, std::size_t work_bytes,
                                                     void* work, std::size_t reserve_bytes, void* reserve) {
  const Rnn rnn = *as<Rnn>(descriptor);
  const Data xd = *as<Data>(x_desc);
  ENTER(shape_of(xd));
  if (lengths != nullptr || mode != CUDNN_WGRAD_MODE_ADD ||
      !shapes_fit(rnn, xd, *as<Data>(y_desc), *as<Tensor>(h_desc), weight_bytes, work_bytes) ||
      reserve_bytes < Reserve::bytes(rnn, xd)) {
    standin::fault("cudnnRNNBackwardWeights_v8 with arguments of another shape");
    return CUDNN_STATUS_BAD_PARAM;
  }
  if (!all_aligned(rnn, {x, hx, y, dweights, work, reserve})) return CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER;
  expect_device("the weights' gradient", dweights, weight_bytes);
  standin::submit(as<Handle>(handle)->stream,
                  [=] { backward_weights(rnn, xd, x, hx, dweights, static_cast<double*>(reserve)); });
  return CUDNN_STATUS_SUCCESS;
}

}  // extern "C"
