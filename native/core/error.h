// The one exception type of the native code. `code` is a stable, machine-readable name; lib/errors.ts maps it to a
// class.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace cudnn_lstm {

class Error : public std::runtime_error {
 public:
  Error(std::string code, const std::string& message) : std::runtime_error(message), code_(std::move(code)) {}
  const std::string& code() const { return code_; }

 private:
  std::string code_;
};

// Codes in use. INVALID_ARGUMENT: the library passed something it should have checked. DEVICE_UNAVAILABLE: no usable
// GPU or library. OUT_OF_MEMORY: host or device memory. DEVICE_FAILED: a call to CUDA, cuDNN, cuBLAS or MPI failed.
// STOPPED: the call was asked to end, and has no result.
inline constexpr const char* kInvalidArgument = "ERR_INVALID_ARGUMENT";
inline constexpr const char* kDeviceUnavailable = "ERR_DEVICE_UNAVAILABLE";
inline constexpr const char* kDeviceFailed = "ERR_DEVICE_FAILED";
inline constexpr const char* kStopped = "ERR_STOPPED";
inline constexpr const char* kOutOfMemory = "ERR_OUT_OF_MEMORY";

}  // namespace cudnn_lstm
