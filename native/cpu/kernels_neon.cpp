#if defined(__aarch64__) && defined(__ARM_NEON)
#define KERNEL_NAMESPACE neon
#define KERNEL_NAME "neon"
#define VW 4
// 6 x 16 in 4-float vectors: the sums take twenty-four of the thirty-two registers.
#define TILE_ROWS 6
#define TILE_BLOCKS 1
#define SINGLE_BLOCK_TILES 1
#define PANEL_WIDTH 16
#include "cpu/kernels.inl"

namespace cudnn_lstm::cpu {
const KernelTable* neon_kernels() { return &neon::table; }
}  // namespace cudnn_lstm::cpu
#else
#include "cpu/kernels.h"
namespace cudnn_lstm::cpu {
const KernelTable* neon_kernels() { return nullptr; }
}  // namespace cudnn_lstm::cpu
#endif
