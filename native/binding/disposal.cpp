#include "binding/disposal.h"

#include <condition_variable>
#include <mutex>
#include <set>
#include <utility>

#include "core/error.h"

namespace cudnn_lstm::binding {
namespace {

// One per process, since destructions give back the process's memory.
struct Pending {
  std::mutex mutex;
  std::condition_variable ended;
  std::uint64_t latest = 0;
  std::set<std::uint64_t> numbers;
};

Pending& pending() {
  static Pending& kept = *new Pending;  // never destroyed: threads may still run during process exit
  return kept;
}

// Destroyed with its job, however that ends: run, dropped when its JavaScript thread ends, or never taken.
class Destruction {
 public:
  explicit Destruction(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {
    Pending& all = pending();
    const std::lock_guard<std::mutex> lock(all.mutex);
    number_ = ++all.latest;
    all.numbers.insert(number_);
  }
  Destruction(const Destruction&) = delete;
  Destruction& operator=(const Destruction&) = delete;
  ~Destruction() {
    backend_.reset();
    Pending& all = pending();
    {
      const std::lock_guard<std::mutex> lock(all.mutex);
      all.numbers.erase(number_);
    }
    all.ended.notify_all();
  }

 private:
  std::unique_ptr<Backend> backend_;
  std::uint64_t number_ = 0;
};

}  // namespace

void destroy_elsewhere(Executor& executor, std::unique_ptr<Backend> backend) {
  if (!backend) return;
  auto destruction = std::make_shared<Destruction>(std::move(backend));
  try {
    executor.run([held = std::move(destruction)] {});  // a job's captures are destroyed with it, on its thread
  } catch (const Error&) {
    // No thread: the backend went with the job that was not taken.
  }
}

std::uint64_t latest_destruction() {
  Pending& all = pending();
  const std::lock_guard<std::mutex> lock(all.mutex);
  return all.latest;
}

void await_destructions(std::uint64_t latest, std::chrono::milliseconds patience) {
  Pending& all = pending();
  std::unique_lock<std::mutex> lock(all.mutex);
  // Only those requested earlier: jobs start in order, so these are running, or have run, by the time this is waited
  // for.
  all.ended.wait_for(lock, patience, [&] { return all.numbers.empty() || *all.numbers.begin() > latest; });
}

}  // namespace cudnn_lstm::binding
