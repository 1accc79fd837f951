// Philox4x32-10, the counter-based generator of Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011).
// The same (counter, key) gives the same four words on every device, so the random state to save is a few integers.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/host_device.h"

namespace cudnn_lstm {

struct PhiloxKey {
  std::uint32_t word[2];
};

struct PhiloxWords {
  std::uint32_t word[4];
  CUDNN_LSTM_HD std::uint32_t operator[](int i) const { return word[i]; }
};

CUDNN_LSTM_HD PhiloxWords philox4x32(PhiloxWords counter, PhiloxKey key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53u} * counter[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57u} * counter[2];
    counter = {
        {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key.word[0], static_cast<std::uint32_t>(product1),
         static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key.word[1], static_cast<std::uint32_t>(product0)}};
    key.word[0] += 0x9E3779B9u;
    key.word[1] += 0xBB67AE85u;
  }
  return counter;
}

// What a draw is for. It is part of the counter, so no two uses ever share a random number.
enum class RandomSite : std::uint32_t { dropout = 0, initialization = 1, sampling = 2 };

CUDNN_LSTM_HD PhiloxKey philox_key(std::uint64_t seed) {
  return {{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)}};
}

// Uniform in [0, 1) with 24 bits, exact in float32.
inline float uniform01(std::uint32_t word) { return static_cast<float>(word >> 8) * (1.0f / 16777216.0f); }

// Dropout keeps an element where its 16 random bits are below this; the survivors are scaled by 65536 / threshold, so
// the expectation is exact though p is rounded to 1/65536.
inline std::uint32_t dropout_threshold(float probability) {
  return 65536u - static_cast<std::uint32_t>(std::lround(probability * 65536.0f));
}

}  // namespace cudnn_lstm
