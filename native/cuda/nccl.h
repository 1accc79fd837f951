// NCCL, which sums between GPUs without the host. It is opened at run time, like cuDNN, and compiled in where its
// header was found (nccl.cpp; otherwise nccl_absent.cpp).
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/communicator.h"
#include "cuda/cuda.h"
#include "cuda/rank_sum.h"

namespace cudnn_lstm::cuda {

// The library that would be opened, looked for as library_search.h says. Empty if none can be used; `searched` gets a
// line that says why.
std::optional<CudaLibrary> find_nccl(const std::string& library_path, std::vector<std::string>& searched);

// Sums are recorded with the step, so that values and loss never leave the GPUs. Ranks that NCCL itself has joined use
// their own communicator; otherwise one is made, whose id goes over `ranks`. The device is the thread's. All ranks must
// call this. Throws Error.
std::unique_ptr<RankSum> sum_by_nccl(Communicator& ranks, std::size_t count, const std::string& library_path);

}  // namespace cudnn_lstm::cuda
