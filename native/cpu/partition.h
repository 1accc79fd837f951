// How a batch is shared between threads. Results never depend on it: every output element is summed by one thread in
// one order.
#pragma once

#include <vector>

namespace cudnn_lstm::cpu {

// A thread's own part of the time loop: lane blocks [first_block, last_block) and, of the units, segment `segment`.
struct Domain {
  int first_block;
  int last_block;
  int segment;
  int first_unit;
  int last_unit;
};

// Either each thread takes some lane blocks and all units, and runs through time on its own; or, where there are too
// few blocks to share, every thread takes all blocks and some units, and the threads meet after every tick.
struct Partition {
  int threads = 1;
  int blocks = 0;
  bool split_units = false;
  std::vector<int> unit_ends;  // one segment a thread if split_units, else one in all

  Domain domain(int thread) const;
};

// Ends of `parts` runs that cover 0..count, each a multiple of 16 long but the last.
std::vector<int> split_by_sixteen(int count, int parts);

Partition make_partition(int threads, int blocks, int hidden, int tile_blocks);

// Thread `part`'s run of 0..count: [share_begin(..., part), share_begin(..., part + 1)).
inline int share_begin(int count, int parts, int part) {
  return static_cast<int>(static_cast<long long>(count) * part / parts);
}

}  // namespace cudnn_lstm::cpu
