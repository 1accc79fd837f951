// NCCL, which sums between GPUs without the host: opened at run time, as cuDNN is, and built against where its header
// was found (nccl.cpp; nccl_absent.cpp otherwise).
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

// The library that would be opened: looked for as library_search.h says. Empty where there is none that can be used;
// `searched` gets a line that says why.
std::optional<CudaLibrary> find_nccl(const std::string& library_path, std::vector<std::string>& searched);

// Recorded with the step: values and loss never leave the GPUs. Of ranks that NCCL itself has brought together it is
// their communicator that sums; otherwise one is made, whose id goes over `ranks`. The device is the thread's. All
// ranks call. Throws Error.
std::unique_ptr<RankSum> sum_by_nccl(Communicator& ranks, std::size_t count, const std::string& library_path);

}  // namespace cudnn_lstm::cuda
