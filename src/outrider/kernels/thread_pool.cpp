#include "thread_pool.h"

#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace outrider {
namespace {

// Longer than the Python code between two kernels takes, shorter than anyone would notice as load.
constexpr auto kSpinTime = std::chrono::microseconds(60);

// Lines fetched ahead between two looks at whether there is work.
constexpr int kLinesAhead = 8;
constexpr int kHint = 2;  // into the second-level cache

constexpr int kLoopShift = 16;
constexpr uint64_t kOpen = 1 << 15;

inline void pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int num_threads) : shares_(size_t(num_threads)), ahead_(size_t(num_threads)) {
  for (int thread = 1; thread < num_threads; ++thread)
    workers_.emplace_back([this, thread] { work(thread); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    state_.fetch_add(uint64_t(1) << kLoopShift);
  }
  wake_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void ThreadPool::launch(int64_t num_tasks, Call call, const void* context) {
  // Nobody reads these now: the last loop was closed, and nobody was left in it.
  call_ = call;
  context_ = context;
  const int64_t count = num_threads();
  for (int64_t i = 0; i < count; ++i) {
    shares_[size_t(i)].next.store(num_tasks * i / count, std::memory_order_relaxed);
    shares_[size_t(i)].end = num_tasks * (i + 1) / count;
  }
  state_.store(((state_.load() >> kLoopShift) + 1) << kLoopShift | kOpen);  // publishes them
  if (num_sleeping_.load() > 0) {
    // Taking the lock orders this after a worker's check of the state under it.
    {
      std::lock_guard<std::mutex> lock(mutex_);
    }
    wake_.notify_all();
  }
  take_tasks(0);
  close_loop();
}

// Every task has been taken: wait for those that took one, and let nobody join any more.
void ThreadPool::close_loop() {
  for (int spins = 0;; ++spins) {
    uint64_t state = state_.load(std::memory_order_acquire);
    if (state % kOpen == 0 && state_.compare_exchange_strong(state, state - kOpen)) return;
    // Where threads outnumber cores a worker may not be running: give way after a while.
    fetch_ahead(0);
    spins < 4096 ? pause() : std::this_thread::yield();
  }
}

// Some lines more of what is ahead.
void ThreadPool::fetch_ahead(int thread) {
  Ahead& ahead = ahead_[size_t(thread)];
  const uint8_t* end = ahead.end.load(std::memory_order_acquire);
  const uint8_t* begin = ahead.begin.load(std::memory_order_acquire);
  if (begin != ahead.seen) ahead.seen = ahead.next = begin;
  for (int i = 0; i < kLinesAhead && ahead.next < end; ++i, ahead.next += 64)
    __builtin_prefetch(ahead.next, 0, kHint);
}

void ThreadPool::take_tasks(int thread) {
  const int count = num_threads();
  for (int i = 0; i < count; ++i) {
    Share& share = shares_[size_t((thread + i) % count)];
    for (;;) {
      const int64_t task = share.next.fetch_add(1, std::memory_order_relaxed);
      if (task >= share.end) break;
      call_(context_, task, thread);
    }
  }
}

void ThreadPool::work(int thread) {
  uint64_t seen = 0;
  for (;;) {
    const uint64_t state = wait_for_loop(thread, seen);
    if (stopping_) return;
    seen = state >> kLoopShift;
    if (!join(state)) continue;
    take_tasks(thread);
    state_.fetch_sub(1, std::memory_order_release);
  }
}

// Give the state once another loop than `seen` has begun; it may be over already.
uint64_t ThreadPool::wait_for_loop(int thread, uint64_t seen) {
  const auto spin_until = std::chrono::steady_clock::now() + kSpinTime;
  do {
    for (int i = 0; i < 32; ++i) {
      const uint64_t state = state_.load();
      if (state >> kLoopShift != seen) return state;
      fetch_ahead(thread);
      pause();
    }
  } while (std::chrono::steady_clock::now() < spin_until);
  num_sleeping_.fetch_add(1);
  std::unique_lock<std::mutex> lock(mutex_);
  wake_.wait(lock, [&] { return state_.load() >> kLoopShift != seen; });
  num_sleeping_.fetch_sub(1);
  return state_.load();
}

// Enter the loop of `state` unless it is over.
bool ThreadPool::join(uint64_t state) {
  const uint64_t loop = state >> kLoopShift;
  while (state & kOpen && state >> kLoopShift == loop)
    if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acquire)) return true;
  return false;
}

}  // namespace outrider
