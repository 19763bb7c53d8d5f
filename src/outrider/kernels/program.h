// A recorded run of kernel calls, to be run again without Python between them.
//
// A call keeps the arrays it works on alive and reads their values anew each time; shapes and
// addresses stay. So whoever changes the arrays between two runs changes what is computed.
#pragma once

#include <functional>
#include <utility>
#include <vector>

namespace outrider {

class Context;

class Program {
 public:
  using Call = std::function<void(Context&)>;

  void add(Call call) { calls_.push_back(std::move(call)); }
  int64_t num_calls() const { return int64_t(calls_.size()); }

  void run(Context& context) const {
    for (const Call& call : calls_) call(context);
  }

 private:
  std::vector<Call> calls_;
};

}  // namespace outrider
