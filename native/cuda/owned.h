// This backend's one RAII template: cuDNN and cuBLAS handles, descriptors, streams, events and graphs are all opaque
// pointers with a function that destroys them.
#pragma once

#include <utility>

namespace cudnn_lstm::cuda {

template <class Handle, class Status>
class Owned {
 public:
  using Destroy = Status (*)(Handle);

  Owned() = default;
  Owned(Handle handle, Destroy destroy) : handle_(handle), destroy_(destroy) {}
  Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)), destroy_(other.destroy_) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(handle_, other.handle_);
    std::swap(destroy_, other.destroy_);
    return *this;
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
  // Nobody could act on a failure to destroy: it is ignored, so that no destructor throws.
  ~Owned() {
    if (handle_ != nullptr) destroy_(handle_);
  }

  Handle get() const { return handle_; }
  explicit operator bool() const { return handle_ != nullptr; }

 private:
  Handle handle_ = nullptr;
  Destroy destroy_ = nullptr;
};

}  // namespace cudnn_lstm::cuda
