// How a batch is shared between threads. Results never depend on it: every output element is summed by one thread in
// one order.
#pragma once

#include <utility>
#include <vector>

namespace cudnn_lstm::cpu {

// A thread's own part of the time loop: of lane blocks [first_block, last_block), units [first_unit, last_unit).
struct Domain {
  int first_block;
  int last_block;
  int first_unit;
  int last_unit;
};

// Either each thread takes some lane blocks and all units, and runs through time on its own; or, where there are too
// few blocks to share, every thread takes all blocks and some units, and the threads meet after every tick.
struct Partition {
  int threads = 1;
  int blocks = 0;
  bool split_units = false;
  std::vector<int> unit_ends;  // of each thread if split_units, else of all

  Domain domain(int thread) const;
  // A thread's part of `count` rows, each its whole width in the thread's blocks: all of them, or, if split_units, a
  // run that begins at a multiple of `tile`.
  std::pair<int, int> rows(int thread, int count, int tile) const;
};

// tile_rows, tile_blocks: of the kernels. A thread's units begin at a multiple of tile_rows, so that both their gate
// rows and they themselves begin at a tile.
Partition make_partition(int threads, int blocks, int hidden, int tile_rows, int tile_blocks);

// Numbers of threads to choose from, ascending: all up to eight, then fewer, the last two `most` - 1 and `most`.
std::vector<int> team_sizes(int most);

// The partitions that may be fastest with up to `threads` threads, by the number of them but for the last, which is
// make_partition's.
std::vector<Partition> partition_options(int threads, int blocks, int hidden, int tile_rows, int tile_blocks);

// Thread `part`'s run of 0..count: [share_begin(..., part), share_begin(..., part + 1)).
inline int share_begin(int count, int parts, int part) {
  return static_cast<int>(static_cast<long long>(count) * part / parts);
}

}  // namespace cudnn_lstm::cpu
