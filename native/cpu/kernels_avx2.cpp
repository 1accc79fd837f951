#if defined(__AVX2__) && defined(__FMA__)
#define KERNEL_NAMESPACE avx2
#define KERNEL_NAME "avx2"
#define VW 8
// 6 x 16: twelve sums, two vectors of the right-hand side, one broadcast: fifteen of the sixteen registers.
#define TILE_ROWS 6
#define TILE_BLOCKS 1
#define SINGLE_BLOCK_TILES 1
#define PANEL_WIDTH 16
#include "cpu/kernels.inl"

namespace cudnn_lstm::cpu {
const KernelTable* avx2_kernels() { return &avx2::table; }
}  // namespace cudnn_lstm::cpu
#else
#include "cpu/kernels.h"
namespace cudnn_lstm::cpu {
const KernelTable* avx2_kernels() { return nullptr; }
}  // namespace cudnn_lstm::cpu
#endif
