#include "cpu/partition.h"

#include <algorithm>

#include "cpu/kernels.h"

namespace cudnn_lstm::cpu {
namespace {

// Below this many multiply-adds a thread and tick, meeting after the tick costs more than the help is worth.
constexpr double kWorthMeeting = 50'000;

}  // namespace

std::vector<int> split_by_sixteen(int count, int parts) {
  std::vector<int> ends;
  for (int part = 1; part <= parts; ++part) {
    const int end = (share_begin(count, parts, part) + 15) / 16 * 16;
    ends.push_back(part == parts ? count : std::min(count, end));
  }
  return ends;
}

Domain Partition::domain(int thread) const {
  if (!split_units) {
    return {share_begin(blocks, threads, thread), share_begin(blocks, threads, thread + 1), 0, 0, unit_ends[0]};
  }
  return {0, blocks, thread, thread == 0 ? 0 : unit_ends[thread - 1], unit_ends[thread]};
}

Partition make_partition(int threads, int blocks, int hidden, int tile_blocks) {
  const double tick = 4.0 * hidden * hidden * blocks * kLanes;
  if (tick < 2 * kWorthMeeting) threads = 1;
  // The busiest thread's load over the mean one: 1 is perfect.
  const int most_blocks = (blocks + threads - 1) / threads;
  const double by_blocks = static_cast<double>(most_blocks) * threads / blocks;
  const std::vector<int> ends = split_by_sixteen(hidden, threads);
  int widest = 0;
  for (int i = 0; i < threads; ++i) widest = std::max(widest, ends[i] - (i == 0 ? 0 : ends[i - 1]));
  const double by_units = static_cast<double>(widest) * threads / hidden;
  const bool worth_meeting = tick / threads > kWorthMeeting;
  // Meeting has a price, but not where each thread would have fewer blocks than one product of tiles takes.
  const double price = most_blocks < std::min(blocks, tile_blocks) ? 1.0 : 1.1;
  if (threads > 1 && worth_meeting && by_units * price <= by_blocks) return {threads, blocks, true, ends};
  return {std::min(threads, blocks), blocks, false, {hidden}};
}

}  // namespace cudnn_lstm::cpu
