// Replaces nccl.cpp where NCCL's header was not found.
#include "core/error.h"
#include "cuda/nccl.h"

namespace cudnn_lstm::cuda {
namespace {

constexpr const char* kAbsent =
    "this build of the addon has no NCCL: fetch its header (scripts/fetch-nvidia) and build the addon again";

}  // namespace

std::optional<CudaLibrary> find_nccl(const std::string& /*library_path*/, std::vector<std::string>& searched) {
  searched.push_back(std::string("NCCL: ") + kAbsent);
  return std::nullopt;
}

std::unique_ptr<RankSum> sum_by_nccl(Communicator& /*ranks*/, std::size_t /*count*/,
                                     const std::string& /*library_path*/) {
  throw Error(kDeviceUnavailable, kAbsent);
}

void prepare_nccl(const std::string& /*address*/) {}

JoinedByNccl join_by_nccl(const NcclJob& /*job*/, const std::string& /*library_path*/) {
  throw Error(kDeviceUnavailable, kAbsent);
}

}  // namespace cudnn_lstm::cuda
