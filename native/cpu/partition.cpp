#include "cpu/partition.h"

#include <algorithm>

#include "cpu/kernels.h"

namespace cudnn_lstm::cpu {
namespace {

// Below this many multiply-adds a thread and tick, meeting after the tick costs more than the help is worth.
constexpr double kWorthMeeting = 50'000;

// Ends of `parts` runs that cover 0..count, each but the last a multiple of `tile` long.
std::vector<int> split_by_tiles(int count, int parts, int tile) {
  const int tiles = (count + tile - 1) / tile;
  std::vector<int> ends;
  for (int part = 1; part <= parts; ++part) ends.push_back(std::min(count, share_begin(tiles, parts, part) * tile));
  return ends;
}

}  // namespace

Domain Partition::domain(int thread) const {
  if (!split_units) {
    return {share_begin(blocks, threads, thread), share_begin(blocks, threads, thread + 1), 0, unit_ends[0]};
  }
  return {0, blocks, thread == 0 ? 0 : unit_ends[thread - 1], unit_ends[thread]};
}

std::pair<int, int> Partition::rows(int thread, int count, int tile) const {
  if (!split_units) return {0, count};
  const int tiles = (count + tile - 1) / tile;
  const auto begin = [&](int of) { return std::min(count, share_begin(tiles, threads, of) * tile); };
  return {begin(thread), begin(thread + 1)};
}

Partition make_partition(int threads, int blocks, int hidden, int tile_rows, int tile_blocks) {
  if (blocks == 0) return {1, 0, false, {hidden}};
  const double tick = 4.0 * hidden * hidden * blocks * kLanes;
  if (tick < 2 * kWorthMeeting) threads = 1;
  // The busiest thread's load over the mean one: 1 is perfect.
  const int most_blocks = (blocks + threads - 1) / threads;
  const double by_blocks = static_cast<double>(most_blocks) * threads / blocks;
  const std::vector<int> ends = split_by_tiles(hidden, threads, tile_rows);
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
