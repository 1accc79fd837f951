#if defined(__AVX512F__) && defined(__AVX512VL__)
#define KERNEL_NAMESPACE avx512
#define KERNEL_NAME "avx512"
#define VW 16
// 8 x 32: sixteen sums, enough to cover the latency of two pipes; the broadcasts are memory operands.
// 24 x 16 for a single lane block: its vector serves more rows; otherwise the two loads per cycle would limit the FMAs.
#define TILE_ROWS 8
#define TILE_BLOCKS 2
#define SINGLE_BLOCK_TILES 3
#define PANEL_WIDTH 32
#include "cpu/kernels.inl"

namespace cudnn_lstm::cpu {
const KernelTable* avx512_kernels() { return &avx512::table; }
}  // namespace cudnn_lstm::cpu
#else
#include "cpu/kernels.h"
namespace cudnn_lstm::cpu {
const KernelTable* avx512_kernels() { return nullptr; }
}  // namespace cudnn_lstm::cpu
#endif
