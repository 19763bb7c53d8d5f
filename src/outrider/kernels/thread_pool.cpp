#include "thread_pool.h"

#include <chrono>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace outrider {
namespace {

// Longer than the Python code between two kernels takes, shorter than anyone would notice as load.
constexpr auto kSpinTime = std::chrono::microseconds(60);

inline void pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

}  // namespace

ThreadPool::ThreadPool(int num_threads) {
  for (int thread = 1; thread < num_threads; ++thread)
    workers_.emplace_back([this, thread] { work(thread); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
    generation_.fetch_add(1);
  }
  wake_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void ThreadPool::launch(int64_t num_tasks, Call call, const void* context) {
  call_ = call;
  context_ = context;
  num_tasks_ = num_tasks;
  next_task_.store(0, std::memory_order_relaxed);
  num_busy_.store(int(workers_.size()), std::memory_order_relaxed);
  generation_.fetch_add(1);  // publishes the fields above
  if (num_sleeping_.load() > 0) {
    // Taking the lock orders this after a worker's check of the generation under it.
    {
      std::lock_guard<std::mutex> lock(mutex_);
    }
    wake_.notify_all();
  }
  take_tasks(0);
  // Where threads outnumber cores a worker may not be running: give way after a while.
  for (int spins = 0; num_busy_.load(std::memory_order_acquire) > 0; ++spins)
    spins < 4096 ? pause() : std::this_thread::yield();
}

void ThreadPool::take_tasks(int thread) {
  for (;;) {
    const int64_t task = next_task_.fetch_add(1, std::memory_order_relaxed);
    if (task >= num_tasks_) return;
    call_(context_, task, thread);
  }
}

void ThreadPool::work(int thread) {
  uint64_t seen = 0;
  for (;;) {
    const auto spin_until = std::chrono::steady_clock::now() + kSpinTime;
    while (generation_.load() == seen && std::chrono::steady_clock::now() < spin_until)
      for (int i = 0; i < 16; ++i) pause();
    if (generation_.load() == seen) {
      num_sleeping_.fetch_add(1);
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return generation_.load() != seen; });
      num_sleeping_.fetch_sub(1);
    }
    ++seen;  // loops never overlap: the generation is exactly one further
    if (stopping_) return;
    take_tasks(thread);
    num_busy_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace outrider
