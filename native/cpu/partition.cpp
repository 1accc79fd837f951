#include "cpu/partition.h"

#include <algorithm>

#include "cpu/kernels.h"

namespace cudnn_lstm::cpu {
namespace {

// Below this many multiply-adds per thread and tick, meeting after the tick costs more than the extra threads save.
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

std::vector<int> team_sizes(int most) {
  std::vector<int> sizes;
  for (int size = 1; size < most; size += std::max(1, size / 4)) sizes.push_back(size);
  if (most > 1 && sizes.back() < most - 1) sizes.push_back(most - 1);  // in case one core is busy with something else
  sizes.push_back(most);
  return sizes;
}

namespace {

// The busiest thread's load divided by the mean load: 1 is perfect.
double blocks_load(int threads, int blocks) {
  const int most = (blocks + threads - 1) / threads;  // blocks of one thread
  return static_cast<double>(most) * threads / blocks;
}

double units_load(const std::vector<int>& ends, int hidden) {
  int widest = 0, begin = 0;
  for (const int end : ends) {
    widest = std::max(widest, end - begin);
    begin = end;
  }
  return static_cast<double>(widest) * static_cast<double>(ends.size()) / hidden;
}

}  // namespace

Partition make_partition(int threads, int blocks, int hidden, int tile_rows, int tile_blocks) {
  if (blocks == 0) return {1, 0, false, {hidden}};
  const double tick = 4.0 * hidden * hidden * blocks * kLanes;
  if (tick < 2 * kWorthMeeting) threads = 1;
  const int most_blocks = (blocks + threads - 1) / threads;
  const std::vector<int> ends = split_by_tiles(hidden, threads, tile_rows);
  const bool worth_meeting = tick / threads > kWorthMeeting;
  // Meeting has a price, except where each thread would have fewer blocks than one tile product takes.
  const double price = most_blocks < std::min(blocks, tile_blocks) ? 1.0 : 1.1;
  if (threads > 1 && worth_meeting && units_load(ends, hidden) * price <= blocks_load(threads, blocks)) {
    return {threads, blocks, true, ends};
  }
  return {std::min(threads, blocks), blocks, false, {hidden}};
}

std::vector<Partition> partition_options(int threads, int blocks, int hidden, int tile_rows, int tile_blocks) {
  std::vector<Partition> options;
  const auto add = [&](Partition partition) {
    const bool there = std::any_of(options.begin(), options.end(), [&](const Partition& other) {
      return other.threads == partition.threads && other.split_units == partition.split_units;
    });
    if (!there) options.push_back(std::move(partition));
  };
  const Partition best = make_partition(threads, blocks, hidden, tile_rows, tile_blocks);
  for (const int size : team_sizes(threads)) {
    Partition partition = make_partition(size, blocks, hidden, tile_rows, tile_blocks);
    // Blocks on fewer threads, but without a meeting after each tick: if one thread is slow, the others go on.
    const bool meets = partition.split_units;
    const int alone = std::min(size, blocks);
    if (meets && alone > 1) add({alone, blocks, false, {hidden}});
    add(std::move(partition));
  }
  std::stable_sort(options.begin(), options.end(),
                   [](const Partition& a, const Partition& b) { return a.threads < b.threads; });
  const auto last = std::find_if(options.begin(), options.end(), [&](const Partition& each) {
    return each.threads == best.threads && each.split_units == best.split_units;
  });
  std::rotate(last, last + 1, options.end());
  return options;
}

}  // namespace cudnn_lstm::cpu
