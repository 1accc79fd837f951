// How a model used only for sampling and scoring stores its matrices.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace cudnn_lstm {

enum class WeightForm { fp32, bf16, int8 };

// What a training step on a CPU multiplies: floats, or values rounded to bfloat16 whose products are summed in float.
// Everything else, evaluation and sampling included, is in float either way.
enum class Arithmetic { fp32, bf16 };

// The largest magnitude of an eight-bit weight; -128 is not used, so that the grid is symmetric.
inline constexpr int kLargestByte = 127;

// The step of a row's grid, given the largest magnitude in the row: a 127th of it, rounded up to 16 significant bits.
// Every value of the grid, eight bits times sixteen, is then exact in a float, and a row already on a grid gives the
// same grid again. (lib/checkpoint/weight-form.ts has the same rule.) Zero for a row that is practically zero.
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

// Rounds a finite value to nearest, ties to even.
inline std::uint16_t to_bf16(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const std::uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
  // What would round to infinity becomes the largest finite value.
  return static_cast<std::uint16_t>((rounded & 0x7f80u) == 0x7f80u ? bits >> 16 : rounded);
}

inline float from_bf16(std::uint16_t half) {
  const std::uint32_t bits = std::uint32_t{half} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace cudnn_lstm
