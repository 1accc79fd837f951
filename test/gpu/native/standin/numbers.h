// Values of the storage types, read and written as double.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "standin.h"

namespace standin {

enum class Type { float32, float16, bfloat16 };

inline std::size_t size_of(Type type) { return type == Type::float32 ? 4 : 2; }

// As cuDNN's developer guide asks: 128 bits where tensor cores may be used, an element elsewhere.
inline bool is_aligned(Type type, const void* data) {
  return reinterpret_cast<std::uintptr_t>(data) % (type == Type::float32 ? 4 : 16) == 0;
}

// A fault where nothing wrote the value.
inline double load(Type type, const void* data, std::size_t i) {
  const std::size_t bytes = size_of(type);
  if (!was_written(static_cast<const char*>(data) + i * bytes, bytes)) fault("memory that nothing wrote is read");
  if (type == Type::float32) return static_cast<const float*>(data)[i];
  if (type == Type::float16) return __half2float(static_cast<const __half*>(data)[i]);
  return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[i]);
}

// Values [begin, begin + count), each looked at once, whatever they are then multiplied with.
inline std::vector<double> load_all(Type type, const void* data, std::size_t begin, std::size_t count) {
  std::vector<double> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = load(type, data, begin + i);
  return values;
}

// sum + a x b, from the first product to the last.
inline double add_products(double sum, const double* a, const double* b, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

inline void store(Type type, void* data, std::size_t i, double value) {
  mark_written(static_cast<char*>(data) + i * size_of(type), size_of(type));
  if (type == Type::float32)
    static_cast<float*>(data)[i] = static_cast<float>(value);
  else if (type == Type::float16)
    static_cast<__half*>(data)[i] = __float2half_rn(static_cast<float>(value));
  else
    static_cast<__nv_bfloat16*>(data)[i] = __float2bfloat16_rn(static_cast<float>(value));
}

}  // namespace standin
