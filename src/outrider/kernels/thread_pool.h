// A pool of worker threads that runs one loop at a time; the caller works too.
//
// Workers spin for a moment after a loop, since the next one of the same step follows within
// microseconds, and meanwhile fetch what they will read next; then they sleep. Each thread has a share of adjacent tasks, so that one after the other
// reads on where the last one stopped; who is done takes from the others' shares. A worker that is
// not there in time, because the system runs something else, is not waited for.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace outrider {

class ThreadPool {
 public:
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return int(workers_.size()) + 1; }

  // What a thread will read next: while it has nothing else to do it fetches that into its cache.
  // Nothing but a hint; any bytes will do, and nullptr stands for none.
  void set_ahead(int thread, const uint8_t* begin, const uint8_t* end) {
    Ahead& ahead = ahead_[size_t(thread)];
    ahead.end.store(nullptr, std::memory_order_relaxed);
    ahead.begin.store(begin, std::memory_order_release);
    ahead.end.store(end, std::memory_order_release);
  }

  // Call body(task, thread) for every task in [0, num_tasks); returns when all are done.
  template <typename Body>
  void run(int64_t num_tasks, const Body& body) {
    if (num_tasks <= 1 || workers_.empty()) {
      for (int64_t task = 0; task < num_tasks; ++task) body(task, 0);
      return;
    }
    launch(
        num_tasks,
        [](const void* context, int64_t task, int thread) {
          (*static_cast<const Body*>(context))(task, thread);
        },
        &body);
  }

 private:
  using Call = void (*)(const void* context, int64_t task, int thread);

  // The tasks of one thread; on a cache line of its own.
  struct alignas(64) Share {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };

  struct alignas(64) Ahead {
    std::atomic<const uint8_t*> begin{nullptr}, end{nullptr};
    const uint8_t *seen = nullptr, *next = nullptr;  // the thread's own: where it is
  };

  void fetch_ahead(int thread);
  void launch(int64_t num_tasks, Call call, const void* context);
  void close_loop();
  void work(int thread);
  uint64_t wait_for_loop(int thread, uint64_t seen);
  bool join(uint64_t state);
  void take_tasks(int thread);

  Call call_ = nullptr;
  const void* context_ = nullptr;
  std::vector<Share> shares_;
  std::vector<Ahead> ahead_;
  // Number of the loop << 16 | whether workers may still join it << 15 | workers in it.
  alignas(64) std::atomic<uint64_t> state_{0};
  std::atomic<int> num_sleeping_{0};
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
};

}  // namespace outrider
