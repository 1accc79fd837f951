// AVX-512 with products of bfloat16 pairs as one instruction (docs/adr/0017-bf16-training.md).
#if defined(__AVX512F__) && defined(__AVX512VL__) && defined(__AVX512BF16__)
#define KERNEL_NAMESPACE avx512bf16
#define KERNEL_NAME "avx512bf16"
#define VW 16
// As in kernels_avx512.cpp.
#define TILE_ROWS 8
#define TILE_BLOCKS 2
#define SINGLE_BLOCK_TILES 3
#define PANEL_WIDTH 32
#include "cpu/kernels.inl"

namespace cudnn_lstm::cpu {
const KernelTable* avx512bf16_kernels() { return &avx512bf16::table; }
}  // namespace cudnn_lstm::cpu
#else
#include "cpu/kernels.h"
namespace cudnn_lstm::cpu {
const KernelTable* avx512bf16_kernels() { return nullptr; }
}  // namespace cudnn_lstm::cpu
#endif
