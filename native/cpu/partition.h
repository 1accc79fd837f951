// How a batch is shared between threads. Results never depend on it: one thread sums each output element, in one order.
#pragma once

#include <utility>
#include <vector>

namespace cudnn_lstm::cpu {

// A thread's share of the time loop: units [first_unit, last_unit) of lane blocks [first_block, last_block).
struct Domain {
  int first_block;
  int last_block;
  int first_unit;
  int last_unit;
};

// Either each thread takes all units of some lane blocks and runs through time on its own; or, if there are too few
// blocks to share, each takes some units of all blocks, and the threads meet after every tick.
struct Partition {
  int threads = 1;
  int blocks = 0;
  bool split_units = false;
  std::vector<int> unit_ends;  // one per thread if split_units, else one for all

  Domain domain(int thread) const;
  // A thread's share of `count` rows, each taken across all of the thread's blocks: all rows or, if split_units, a run
  // that begins at a multiple of `tile`.
  std::pair<int, int> rows(int thread, int count, int tile) const;
};

// tile_rows, tile_blocks: the kernels'. A thread's units begin at a multiple of tile_rows, so that both they and their
// gate rows begin at a tile.
Partition make_partition(int threads, int blocks, int hidden, int tile_rows, int tile_blocks);

// Team sizes to choose from, ascending: all up to eight, then sparser, ending with `most` - 1 and `most`.
std::vector<int> team_sizes(int most);

// The partitions that may be fastest with up to `threads` threads, in order of thread count except the last, which is
// make_partition's.
std::vector<Partition> partition_options(int threads, int blocks, int hidden, int tile_rows, int tile_blocks);

// Thread `part`'s run of 0..count: [share_begin(..., part), share_begin(..., part + 1)).
inline int share_begin(int count, int parts, int part) {
  return static_cast<int>(static_cast<long long>(count) * part / parts);
}

}  // namespace cudnn_lstm::cpu
