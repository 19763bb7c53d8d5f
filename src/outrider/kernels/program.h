// A recorded run of kernel calls, to be run again without Python between them.
//
// A call keeps the arrays it works on alive and reads their values anew each time; shapes and
// addresses stay. So whoever changes the arrays between two runs changes what is computed.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "kernels.h"

namespace outrider {

class Context;

class Program {
 public:
  using Run = std::function<void(Context&)>;

  // `reads`: the weights that the call multiplies with, if they are known before.
  void add(Run run, std::vector<WeightView> reads) { calls_.push_back({std::move(run), std::move(reads)}); }
  int64_t num_calls() const { return int64_t(calls_.size()); }
  void run(Context& context) const;

 private:
  struct Call {
    Run run;
    std::vector<WeightView> reads;
  };
  std::vector<Call> calls_;
};

}  // namespace outrider
