#pragma once

// Four floats out of the eight of two vectors, by their numbers. A macro, since the numbers must be constants and each
// kernels_*.cpp must have code of its own instruction set.
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE_FOUR(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else  // GCC 11 has the older spelling only
typedef int ShuffleIndices __attribute__((vector_size(16)));
#define SHUFFLE_FOUR(a, b, i, j, k, l) __builtin_shuffle(a, b, ShuffleIndices{i, j, k, l})
#endif
