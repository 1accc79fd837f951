#pragma once

// Picks four of the eight floats in two vectors, by index. A macro, since the indices must be constants and each
// kernels_*.cpp must compile it for its own instruction set.
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE_FOUR(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else  // GCC 11 has the older spelling only
typedef int ShuffleIndices __attribute__((vector_size(16)));
#define SHUFFLE_FOUR(a, b, i, j, k, l) __builtin_shuffle(a, b, ShuffleIndices{i, j, k, l})
#endif
