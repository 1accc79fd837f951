// For every CPU of the architecture: SSE2 on x86-64, elsewhere whatever the compiler's default is.
#define KERNEL_NAMESPACE baseline
#define KERNEL_NAME "baseline"
#define VW 4
#define TILE_ROWS 2
#define TILE_BLOCKS 1
#define SINGLE_BLOCK_TILES 1
#define PANEL_WIDTH 16
#include "cpu/kernels.inl"

namespace cudnn_lstm::cpu {
const KernelTable* baseline_kernels() { return &baseline::table; }
}  // namespace cudnn_lstm::cpu
