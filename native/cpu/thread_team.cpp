#include "cpu/thread_team.h"

#include <algorithm>
#include <system_error>

namespace cudnn_lstm::cpu {
namespace {

// Nanoseconds that a waiting thread spins before it sleeps: about the cost of falling asleep and being woken. While all
// threads run, the gaps between the ticks of a step, and between the steps of a call, are shorter than this.
constexpr std::int64_t kSpin = 50'000;

// Nanoseconds this thread has waited at barriers in its current run.
thread_local std::int64_t waited = 0;

}  // namespace

ThreadTeam::ThreadTeam(int most) : most_(std::max(1, most)), cpus_(most_) {
  members_.push_back(std::make_unique<Member>());
}

ThreadTeam::~ThreadTeam() {
  ending_ = true;
  for (std::size_t i = 1; i < members_.size(); ++i) members_[i]->turn.add(1);
  for (std::size_t i = 1; i < members_.size(); ++i) members_[i]->thread.join();
}

int ThreadTeam::resize(int threads) {
  threads = std::clamp(threads, 1, most_);
  members_.reserve(threads);  // so that a thread, once started, always becomes a member
  for (int thread = static_cast<int>(members_.size()); thread < threads; ++thread) {
    auto member = std::make_unique<Member>();
    try {
      member->thread = std::thread([this, thread, &self = *member] { serve(thread, self); });
    } catch (const std::system_error&) {
      threads = most_ = thread;  // results do not depend on the number
      break;
    }
    members_.push_back(std::move(member));
  }
  return size_ = threads;
}

std::int64_t ThreadTeam::spin() const { return active_ <= cpus_ ? kSpin : 0; }

void ThreadTeam::work_as(int thread, Member& self, const std::function<void(int)>& work) {
  waited = 0;
  const std::int64_t start = nanoseconds();
  work(thread);
  self.working = nanoseconds() - start - waited;
}

void ThreadTeam::run(int threads, const std::function<void(int)>& work) {
  active_ = threads;
  if (threads <= 1) {
    work(0);
    return;
  }
  const std::int64_t start = nanoseconds();
  work_ = &work;
  finished_.reset(0);
  for (int i = 1; i < threads; ++i) members_[i]->turn.add(1);
  work_as(0, *members_[0], work);
  const std::uint32_t others = static_cast<std::uint32_t>(threads - 1);
  finished_.wait(spin(), [others](std::uint32_t finished) { return finished != others; });
  lasting_ += (nanoseconds() - start) * threads;
  for (int i = 0; i < threads; ++i) working_ += members_[i]->working;
}

void ThreadTeam::wait_for_phase_after(std::uint32_t phase) {
  waited += phase_.wait(spin(), [phase](std::uint32_t now) { return now == phase; });
}

double ThreadTeam::take_worked_share() {
  const double share = lasting_ > 0 ? static_cast<double>(working_) / static_cast<double>(lasting_) : 1;
  working_ = lasting_ = 0;
  return share;
}

void ThreadTeam::serve(int thread, Member& self) {
  for (std::uint32_t done = 0;; ++done) {
    self.turn.wait(kSpin, [done](std::uint32_t turn) { return turn == done; });
    if (ending_) return;
    work_as(thread, self, *work_);
    const std::uint32_t all_before = static_cast<std::uint32_t>(active_ - 2);  // the next run may change it
    finished_.add(1, [all_before](std::uint32_t before) { return before == all_before; });
  }
}

}  // namespace cudnn_lstm::cpu
