// How a model that is only sampled from and scored keeps its matrices.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace cudnn_lstm {

enum class WeightForm { fp32, bf16, int8 };

// What a training step multiplies on a CPU: floats, or numbers rounded to bfloat16, whose products are summed in
// floats. All else, and evaluation and sampling, are in floats either way.
enum class Arithmetic { fp32, bf16 };

// The largest magnitude of a weight in eight bits; -128 is not used, so that the grid is symmetric.
inline constexpr int kLargestByte = 127;

// What a step of a row's grid is, given the largest magnitude in the row: a 127th of it, rounded up to 16 significant
// bits. So every value of the grid, eight bits times sixteen, is a float without rounding, and a row that lies on a
// grid gives the same one again. (lib/checkpoint/weight-form.ts has the same rule.) Zero for a row that is as good as
// zero.
inline float byte_scale(float largest) {
  if (!(largest >= 1e-30f)) return 0;
  float scale = largest / kLargestByte;
  std::uint32_t bits;
  std::memcpy(&bits, &scale, sizeof bits);
  bits = (bits + 0xffu) & ~0xffu;
  std::memcpy(&scale, &bits, sizeof bits);
  return scale;
}

inline std::int8_t to_byte(float value, float scale) {
  return scale == 0 ? std::int8_t{0} : static_cast<std::int8_t>(std::nearbyintf(value / scale));
}

// Rounded to nearest, ties to even, of finite values.
inline std::uint16_t to_bf16(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const std::uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  // What would be infinite stays the largest there is.
  return static_cast<std::uint16_t>((rounded & 0x7f80u) == 0x7f80u ? bits >> 16 : rounded);
}

inline float from_bf16(std::uint16_t half) {
  const std::uint32_t bits = std::uint32_t{half} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace cudnn_lstm
