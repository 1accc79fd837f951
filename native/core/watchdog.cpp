#include "core/watchdog.h"

#include <algorithm>
#include <utility>

namespace cudnn_lstm {
namespace {

constexpr std::chrono::milliseconds kMostBetweenLooks{500};

}  // namespace

Watchdog::Watchdog(std::chrono::milliseconds limit, std::function<void()> bark)
    : limit_(limit), bark_(std::move(bark)) {
  if (limit_.count() > 0) thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    ended_ = true;
  }
  ending_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::int64_t Watchdog::now() {
  using Milliseconds = std::chrono::milliseconds;
  return std::chrono::duration_cast<Milliseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void Watchdog::watch() {
  const auto pause = std::min(kMostBetweenLooks, std::max(limit_ / 4, std::chrono::milliseconds(1)));
  std::unique_lock<std::mutex> lock(mutex_);
  while (!ending_.wait_for(lock, pause, [this] { return ended_; })) {
    const std::int64_t began = began_.load();
    if (began == kIdle || now() - began < limit_.count()) continue;
    lock.unlock();
    bark_();
    return;
  }
}

}  // namespace cudnn_lstm
