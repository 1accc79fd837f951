#include "cuda/layers.h"

#include <algorithm>

#include "cuda/kernels.h"

namespace cudnn_lstm::cuda {
namespace {

// Pieces begin at multiples of this many ticks, which are aligned in every tensor and type, whatever B and F are.
constexpr int kPieceTicks = 8;

template <class Tensor>
DeviceBuffer zeroed(const Context<Tensor>& context, std::size_t values, const char* what) {
  DeviceBuffer buffer(context.account, values * sizeof(Tensor), what);
  CHECK_CUDA(cudaMemsetAsync(buffer.data(), 0, buffer.bytes(), context.stream));
  return buffer;
}

bool same_segments(const std::vector<Segment>& a, const std::vector<Segment>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const Segment& left, const Segment& right) {
    return left.arena == right.arena && left.size == right.size;
  });
}

// Empty if cuDNN lacks the algorithm or lays out its weights differently: all plans share one weight space.
template <class T>
RnnDescriptor descriptor_for(const Context<T>& context, cudnnRNNAlgo_t algorithm, const LayerRange& range) {
  const Rnn& rnn = context.rnn;
  RnnDescriptor descriptor = rnn.make_descriptor(algorithm, range);
  if (!descriptor || algorithm == CUDNN_RNN_ALGO_STANDARD) return descriptor;
  const RnnDescriptor standard = rnn.make_descriptor(CUDNN_RNN_ALGO_STANDARD, range);
  if (rnn.weight_elements(descriptor.get()) != rnn.weight_elements(standard.get())) return {};
  const void* weights = context.arena.weights();
  const WeightMap expected = rnn.weight_map(standard.get(), range, context.layout, weights);
  const WeightMap found = rnn.weight_map(descriptor.get(), range, context.layout, weights);
  const bool same =
      same_segments(expected.parameters, found.parameters) && same_segments(expected.frozen, found.frozen);
  return same ? std::move(descriptor) : RnnDescriptor{};
}

template <class T>
class JoinedLayers final : public Layers<T> {
 public:
  JoinedLayers(const Context<T>& context, const LayersShape& shape, cudnnRNNAlgo_t algorithm, RnnDescriptor descriptor)
      : context_(context),
        state_layout_(state_layout_of(context.spec, shape.batch, false)),
        workspace_(context.account) {
    const std::size_t values = static_cast<std::size_t>(shape.steps) * shape.batch * context.spec.hidden;
    // Allocated first: if the output alone is too large for the GPU, memory runs out here, and cuDNN is not asked about
    // sizes that may overflow its counts.
    y_ = DeviceBuffer(context.account, values * sizeof(T), "the LSTM's output");
    if (shape.training) dy_ = zeroed(context, values, "the gradient of the LSTM's output");
    pass_ = std::make_unique<RnnPass>(context.rnn, algorithm, std::move(descriptor), context.rnn.all_layers(),
                                      shape.steps, shape.batch, shape.training, 0, workspace_, context.account);
  }

  void forward(const T* x, const T* state, T* next) override {
    pass_->forward(context_.arena.all_layers(), x, y_.data(), start(state), {next, next + state_layout_.cell()});
  }
  void backward(const T* x, const T* state, T* dx, T* gradients) override {
    pass_->backward_data(context_.arena.all_layers(), y_.data(), dy_.data(), dx, start(state), {}, {});
    pass_->backward_weights(x, start(state), y_.data(), gradients);
  }
  const T* y() const override { return y_.as<T>(); }
  const DeviceBuffer& dy() const override { return dy_; }

 private:
  RnnPass::From start(const T* state) const {
    return state == nullptr ? RnnPass::From{} : RnnPass::From{state, state + state_layout_.cell()};
  }

  const Context<T> context_;
  const StateLayout state_layout_;
  Workspace workspace_;
  DeviceBuffer y_, dy_;
  std::unique_ptr<RnnPass> pass_;
};

// One call per layer and piece of T. A layer's output is masked into a separate buffer in training, where its backward
// pass reads y itself, and in place otherwise. With more than one piece, odd layers run on the second stream, so that a
// layer's piece overlaps the next piece of the layer below.
template <class T>
class MaskedLayers final : public Layers<T> {
 public:
  MaskedLayers(const Context<T>& context, const LayersShape& shape, const StepView& view, cudnnRNNAlgo_t algorithm,
               std::vector<std::vector<RnnDescriptor>> descriptors, std::vector<int> begins)
      : context_(context),
        shape_(shape),
        view_(view),
        state_layout_(state_layout_of(context.spec, shape.batch, true)),
        begins_(std::move(begins)),
        pieces_(static_cast<int>(begins_.size()) - 1),
        workspaces_{Workspace(context.account), Workspace(context.account)},
        layers_(static_cast<std::size_t>(context.spec.layers)) {
    const std::size_t values = static_cast<std::size_t>(shape.steps) * shape.batch * context.spec.hidden;
    const std::size_t row = aligned(state_layout_.rows);
    for (Layer& layer : layers_) layer.y = DeviceBuffer(context.account, values * sizeof(T), "the LSTM's output");
    for (int l = 0; l < count(); ++l) {
      Layer& layer = layers_[static_cast<std::size_t>(l)];
      if (shape.training) {
        layer.dy = zeroed(context, values, "the gradient of the LSTM's output");
        if (l + 1 < count())
          layer.masked = DeviceBuffer(context.account, values * sizeof(T), "the LSTM's output after dropout");
      }
      if (pieces_ > 1) {
        layer.ends = zeroed(context, 2 * row * static_cast<std::size_t>(pieces_ - 1), "the state between pieces");
        if (shape.training) layer.end_gradients = zeroed(context, 4 * row, "the gradient of the state between pieces");
      }
      for (int piece = 0; piece < pieces_; ++piece) {
        layer.passes.push_back(std::make_unique<RnnPass>(
            context.rnn, algorithm,
            std::move(descriptors[static_cast<std::size_t>(l)][static_cast<std::size_t>(piece)]), LayerRange{l, 1},
            begins_[piece + 1] - begins_[piece], shape.batch, shape.training, lane(l), workspaces_[lane(l)],
            context.account));
        layer.done.push_back(pieces_ > 1 ? make_event() : Event{});
      }
    }
    if (pieces_ > 1) {
      forked_ = make_event();
      joined_ = make_event();
    }
  }

  void forward(const T* x, const T* state, T* next) override {
    fork();
    for (int wave = 0; wave < pieces_ + count() - 1; ++wave) {
      for (int l = 0; l < count(); ++l) {
        const int piece = wave - l;
        if (piece < 0 || piece >= pieces_) continue;
        Layer& layer = layers_[static_cast<std::size_t>(l)];
        if (l > 0) wait(l, layers_[static_cast<std::size_t>(l - 1)].done[static_cast<std::size_t>(piece)]);
        const RnnPass::Into end = piece + 1 == pieces_
                                      ? RnnPass::Into{next + state_layout_.offset(0, static_cast<std::size_t>(l)),
                                                      next + state_layout_.offset(1, static_cast<std::size_t>(l))}
                                      : RnnPass::Into{end_of(layer, piece, 0), end_of(layer, piece, 1)};
        pass(l, piece).forward(weights(l), input(l, x) + begins_[piece] * input_row(l),
                               layer.y.template as<T>() + at(piece), start(l, piece, state), end);
        if (l + 1 < count()) mask(l, piece, layer.y.template as<T>(), output(l));
        record(l, layer.done[static_cast<std::size_t>(piece)]);
      }
    }
    join();
  }

  void backward(const T* x, const T* state, T* dx, T* gradients) override {
    fork();
    const std::size_t row = aligned(state_layout_.rows);
    for (int wave = 0; wave < pieces_ + count() - 1; ++wave) {
      for (int l = count() - 1; l >= 0; --l) {
        const int piece = pieces_ - 1 - wave + (count() - 1 - l);
        if (piece < 0 || piece >= pieces_) continue;
        Layer& layer = layers_[static_cast<std::size_t>(l)];
        if (l + 1 < count()) wait(l, layers_[static_cast<std::size_t>(l + 1)].done[static_cast<std::size_t>(piece)]);
        // The state's gradient comes from the next piece and goes to the previous one, through two alternating slots.
        T* between = layer.end_gradients.template as<T>();
        RnnPass::From from;
        RnnPass::Into into;
        if (piece + 1 < pieces_) from = {between + piece % 2 * 2 * row, between + (piece % 2 * 2 + 1) * row};
        if (piece > 0) into = {between + (piece - 1) % 2 * 2 * row, between + ((piece - 1) % 2 * 2 + 1) * row};
        T* below = l == 0 ? dx : layers_[static_cast<std::size_t>(l - 1)].dy.template as<T>();
        pass(l, piece).backward_data(weights(l), layer.y.template as<T>() + at(piece),
                                     layer.dy.template as<T>() + at(piece), below + begins_[piece] * input_row(l),
                                     start(l, piece, state), from, into);
        if (l > 0) mask(l - 1, piece, below, below, lane(l));
        record(l, layer.done[static_cast<std::size_t>(piece)]);
      }
    }
    // Weight gradients come last: no other layer waits for them.
    for (int l = count() - 1; l >= 0; --l) {
      const Layer& layer = layers_[static_cast<std::size_t>(l)];
      for (int piece = pieces_ - 1; piece >= 0; --piece) {
        pass(l, piece).backward_weights(input(l, x) + begins_[piece] * input_row(l), start(l, piece, state),
                                        layer.y.template as<T>() + at(piece),
                                        gradients + context_.arena.layers[static_cast<std::size_t>(l)]);
      }
    }
    join();
  }

  const T* y() const override { return layers_.back().y.template as<T>(); }
  const DeviceBuffer& dy() const override { return layers_.back().dy; }

 private:
  struct Layer {
    DeviceBuffer y, masked, dy;                    // [T, B, H]
    DeviceBuffer ends;                             // [pieces - 1][2] rows: h and c at the end of a piece
    DeviceBuffer end_gradients;                    // [2][2] rows: their gradients, alternating between pieces
    std::vector<std::unique_ptr<RnnPass>> passes;  // [pieces]
    std::vector<Event> done;                       // [pieces]: the layer's piece is done, forward and then backward
  };

  int count() const { return context_.spec.layers; }
  int lane(int layer) const { return pieces_ > 1 ? layer % 2 : 0; }
  const RnnPass& pass(int layer, int piece) const {
    return *layers_[static_cast<std::size_t>(layer)].passes[static_cast<std::size_t>(piece)];
  }
  const T* weights(int layer) const {
    return context_.arena.weights() + context_.arena.layers[static_cast<std::size_t>(layer)];
  }
  // Index of a piece's first value in a tensor [T, B, H].
  std::size_t at(int piece) const { return begins_[piece] * state_layout_.rows; }
  // Values per tick of a layer's input.
  std::size_t input_row(int layer) const {
    return static_cast<std::size_t>(shape_.batch) * context_.rnn.features(LayerRange{layer, 1});
  }
  // The output that a layer passes to the next.
  T* output(int layer) const {
    const Layer& from = layers_[static_cast<std::size_t>(layer)];
    return (from.masked.data() != nullptr ? from.masked : from.y).template as<T>();
  }
  const T* input(int layer, const T* x) const { return layer == 0 ? x : output(layer - 1); }
  T* end_of(const Layer& layer, int piece, int which) const {
    return layer.ends.template as<T>() + static_cast<std::size_t>(2 * piece + which) * aligned(state_layout_.rows);
  }
  RnnPass::From start(int layer, int piece, const T* state) const {
    const Layer& from = layers_[static_cast<std::size_t>(layer)];
    if (piece > 0) return {end_of(from, piece - 1, 0), end_of(from, piece - 1, 1)};
    if (state == nullptr) return {};
    return {state + state_layout_.offset(0, static_cast<std::size_t>(layer)),
            state + state_layout_.offset(1, static_cast<std::size_t>(layer))};
  }

  // Applies the mask of `layer`'s output to a piece.
  void mask(int layer, int piece, const T* from, T* to) const { mask(layer, piece, from, to, lane(layer)); }
  void mask(int layer, int piece, const T* from, T* to, int on_lane) const {
    const ModelSpec& spec = context_.spec;
    const int ticks = begins_[piece + 1] - begins_[piece];
    for_each_element(
        context_.rnn.stream(on_lane), static_cast<std::size_t>(ticks) * ((shape_.batch + 7) / 8) * spec.hidden,
        Dropout<T>{view_, from + at(piece), to + at(piece), shape_.batch, spec.hidden, begins_[piece],
                   static_cast<std::uint32_t>(layer), dropout_threshold(spec.dropout), spec.seed, shape_.first_block});
  }

  void record(int layer, const Event& event) const {
    if (event) CHECK_CUDA(cudaEventRecord(event.get(), context_.rnn.stream(lane(layer))));
  }
  void wait(int layer, const Event& event) const {
    if (event) CHECK_CUDA(cudaStreamWaitEvent(context_.rnn.stream(lane(layer)), event.get(), 0));
  }
  // The second stream starts after the work queued on the first, and the first continues after both.
  void fork() const {
    if (!forked_) return;
    CHECK_CUDA(cudaEventRecord(forked_.get(), context_.rnn.stream(0)));
    CHECK_CUDA(cudaStreamWaitEvent(context_.rnn.stream(1), forked_.get(), 0));
  }
  void join() const {
    if (!joined_) return;
    CHECK_CUDA(cudaEventRecord(joined_.get(), context_.rnn.stream(1)));
    CHECK_CUDA(cudaStreamWaitEvent(context_.rnn.stream(0), joined_.get(), 0));
  }

  const Context<T> context_;
  const LayersShape shape_;
  const StepView view_;
  const StateLayout state_layout_;
  const std::vector<int> begins_;  // [pieces + 1]: the ticks at which pieces begin, and T
  const int pieces_;
  Workspace workspaces_[2];  // one per stream
  std::vector<Layer> layers_;
  Event forked_, joined_;
};

// Pieces as equal as multiples of kPieceTicks allow.
std::vector<int> piece_begins(int steps, int pieces) {
  const int blocks = (steps + kPieceTicks - 1) / kPieceTicks;
  const int count = std::max(1, std::min(pieces, blocks));
  std::vector<int> begins;
  for (int piece = 0; piece < count; ++piece) begins.push_back(blocks * piece / count * kPieceTicks);
  begins.push_back(steps);
  return begins;
}

}  // namespace

template <class T>
std::unique_ptr<Layers<T>> make_layers(const Context<T>& context, const LayersShape& shape, const StepView& view,
                                       cudnnRNNAlgo_t algorithm) {
  if (!shape.masked || context.spec.layers == 1) {
    RnnDescriptor descriptor = descriptor_for(context, algorithm, context.rnn.all_layers());
    if (!descriptor) return nullptr;
    return std::make_unique<JoinedLayers<T>>(context, shape, algorithm, std::move(descriptor));
  }
  std::vector<int> begins = piece_begins(shape.steps, context.pieces);
  // One per piece: persist-dynamic's is built for a batch size, and a pass owns its descriptor.
  std::vector<std::vector<RnnDescriptor>> descriptors(static_cast<std::size_t>(context.spec.layers));
  for (int layer = 0; layer < context.spec.layers; ++layer) {
    for (std::size_t piece = 0; piece + 1 < begins.size(); ++piece) {
      RnnDescriptor descriptor = descriptor_for(context, algorithm, LayerRange{layer, 1});
      if (!descriptor) return nullptr;
      descriptors[static_cast<std::size_t>(layer)].push_back(std::move(descriptor));
    }
  }
  return std::make_unique<MaskedLayers<T>>(context, shape, view, algorithm, std::move(descriptors), std::move(begins));
}

template std::unique_ptr<Layers<float>> make_layers(const Context<float>&, const LayersShape&, const StepView&,
                                                    cudnnRNNAlgo_t);
template std::unique_ptr<Layers<Half>> make_layers(const Context<Half>&, const LayersShape&, const StepView&,
                                                   cudnnRNNAlgo_t);
template std::unique_ptr<Layers<BFloat16>> make_layers(const Context<BFloat16>&, const LayersShape&, const StepView&,
                                                       cudnnRNNAlgo_t);

}  // namespace cudnn_lstm::cuda
