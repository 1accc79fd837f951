#include "mpi/mpi_communicator.h"

#include <algorithm>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "core/error.h"

namespace cudnn_lstm::mpi {
namespace {

constexpr int kExitDevice = 4;  // lib/errors.ts

constexpr std::size_t kMostAtOnce = std::size_t{1} << 30;  // MPI counts in ints

// How long abort() waits for another thread's call, and how long the library's own abort may take.
constexpr std::chrono::milliseconds kAbortPatience{200};
constexpr std::chrono::seconds kExitPatience{2};

// The pause between the ranks' last barrier and MPI_Finalize, and how long MPI_Finalize may take.
constexpr std::chrono::milliseconds kFinishPause{100};
constexpr std::chrono::seconds kFinishPatience{10};

}  // namespace

MpiCommunicator::MpiCommunicator(std::unique_ptr<Library> library, std::chrono::milliseconds patience)
    : library_(std::move(library)), patience_(patience), watchdog_(patience, [this] { give_up(); }) {
  const std::string& version = library_->version();
  if (library_->started()) {
    throw Error(kDeviceUnavailable, version + " has been started in this process by another program");
  }
  call([this] {
    const int code = library_->start();
    if (code == 0) return library_->return_errors();
    throw Error(kDeviceUnavailable, library_->version() + " could not be started: error " + std::to_string(code));
  });
  if (!library_->any_thread()) {
    throw Error(kDeviceUnavailable, version + " takes calls from its first thread alone (no MPI_THREAD_SERIALIZED)");
  }
  call([this] { return library_->place_on_machine(local_rank_, local_size_); });
  rank_ = library_->rank();
  size_ = library_->size();
}

void MpiCommunicator::give_up() {
  const double seconds = static_cast<double>(patience_.count()) / 1000;
  const char* const why = "one hangs, or its machine is gone (CUDNN_LSTM_TIMEOUT sets how long to wait)";
  if (size_ == 0) {
    std::fprintf(stderr, "MPI did not bring the ranks together in %g s: %s.\n", seconds, why);
    std::_Exit(kExitDevice);  // what has not begun cannot be aborted
  }
  std::fprintf(stderr, "rank %d of %d: the other ranks did not answer in %g s: %s.\n", rank_, size_, seconds, why);
  // A launcher that merely sees this process exit may wait for the lost machine: MPICH's does, indefinitely.
  abort(kExitDevice);
}

template <typename Function>
void MpiCommunicator::call(Function function) {
  const std::lock_guard<std::timed_mutex> lock(calls_);
  const Watchdog::Call watched(watchdog_);
  check(function());
}

void MpiCommunicator::check(int code) const {
  if (code != 0) throw Error(kDeviceFailed, "MPI: " + library_->describe_error(code));
}

void MpiCommunicator::sum(float* values, std::size_t count) {
  call([&] {
    int code = 0;
    for (std::size_t at = 0; at < count && code == 0; at += kMostAtOnce / sizeof(float)) {
      code = library_->sum(values + at, static_cast<int>(std::min(kMostAtOnce / sizeof(float), count - at)));
    }
    return code;
  });
}

void MpiCommunicator::gather(const void* mine, std::size_t bytes, void* all) {
  if (bytes <= kMostAtOnce) {
    return call([&] { return library_->gather(mine, static_cast<int>(bytes), all); });
  }
  // Each piece is gathered from all ranks, then copied to each rank's place.
  std::vector<char> pieces;
  for (std::size_t at = 0; at < bytes; at += kMostAtOnce) {
    const std::size_t length = std::min(kMostAtOnce, bytes - at);
    pieces.resize(length * size_);
    call(
        [&] { return library_->gather(static_cast<const char*>(mine) + at, static_cast<int>(length), pieces.data()); });
    for (int rank = 0; rank < size_; ++rank) {
      std::memcpy(static_cast<char*>(all) + rank * bytes + at, pieces.data() + rank * length, length);
    }
  }
}

void MpiCommunicator::broadcast(void* data, std::size_t bytes) {
  call([&] {
    int code = 0;
    for (std::size_t at = 0; at < bytes && code == 0; at += kMostAtOnce) {
      code = library_->broadcast(static_cast<char*>(data) + at, static_cast<int>(std::min(kMostAtOnce, bytes - at)));
    }
    return code;
  });
}

void MpiCommunicator::barrier() {
  call([&] { return library_->barrier(); });
}

bool MpiCommunicator::finish() {
  call([&] { return library_->barrier(); });
  // MPICH 4.0.2 over UCX's TCP closes its connections while the barrier's last messages are in flight, and then waits
  // for a peer that has closed its own: in 11 of 20 runs of four ranks on two machines, and in none of 52 with a pause.
  std::this_thread::sleep_for(kFinishPause);
  struct Ending {
    std::mutex mutex;
    std::condition_variable changed;
    std::optional<int> code;
  };
  const std::lock_guard<std::timed_mutex> calls(calls_);
  const auto ending = std::make_shared<Ending>();
  std::thread([ending, library = library_] {
    const int code = library->finish();
    const std::lock_guard<std::mutex> lock(ending->mutex);
    ending->code = code;
    ending->changed.notify_all();
  }).detach();
  std::unique_lock<std::mutex> lock(ending->mutex);
  ending->changed.wait_for(lock, kFinishPatience, [&] { return ending->code.has_value(); });
  check(ending->code.value_or(0));
  return ending->code.has_value();
}

void MpiCommunicator::abort(int code) {
  // The library's abort may run others' exit handlers under threads that are still working.
  try {
    std::thread([code] {
      std::this_thread::sleep_for(kExitPatience);
      std::_Exit(code);
    }).detach();
  } catch (const std::system_error&) {
    std::_Exit(code);
  }
  const std::unique_lock<std::timed_mutex> lock(calls_, kAbortPatience);
  library_->abort(code);
  std::_Exit(code);
}

}  // namespace cudnn_lstm::mpi
