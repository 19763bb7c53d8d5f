// The choice among the tokens of one row, without sorting the row.
//
// Only chunks whose best token can pass are looked into. Where a filter cuts is found by adding up
// per range of weights, so no input costs more than a few passes. Sums are in f64, in a fixed order.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "context.h"
#include "floats.h"

namespace outrider {
namespace {

// A row of logits [V] and what the kernels found in its chunks.
struct ChunkedRow {
  const Kernels* kernels;
  const float* x;      // [V]
  int64_t size;        // V
  const float* peaks;  // [chunks] weight of the best token of each
  const float* sums;   // [chunks] of weights; only where they are needed
  const float* above;  // [pieces, kFloors] sums of weights of at least kFloor; only where needed
  float max, scale;    // weight = exp((x - max) * scale)

  int64_t num_chunks() const { return (size + kChunk - 1) / kChunk; }
  // The weights of a chunk, 0 beyond the end of the row.
  void read_chunk(float* weights, int64_t chunk) const {
    const int64_t begin = chunk * kChunk, count = std::min(kChunk, size - begin);
    kernels->token_weights(weights, x + begin, max, scale, count);
    std::fill(weights + count, weights + kChunk, 0.0f);
  }
};

double total_weight(const float* sums, int64_t num_chunks) {
  double total = 0;
  for (int64_t chunk = 0; chunk < num_chunks; ++chunk) total += double(sums[chunk]);
  return total;
}

// The first value at which `before` and the values up to it exceed `target`, else the last one that
// adds something; `before` becomes the sum without it.
template <typename ValueOf>
int64_t pick_value(int64_t count, const ValueOf& value_of, double target, double& before) {
  int64_t chosen = 0;
  double sum = before;
  for (int64_t i = 0; i < count && sum <= target; ++i) {
    const double next = sum + double(value_of(i));
    if (next == sum) continue;
    chosen = i;
    before = sum;
    sum = next;
  }
  return chosen;
}

// Some chunks of a row, with the tokens among which the choice is; the weights of others are 0.
class Candidates {
 public:
  Candidates(const Kernels* kernels, SamplingScratch& scratch) : kernels_(kernels), scratch_(scratch) {}

  // Take all tokens whose weight is at least `floor` and not 0.
  void gather(const ChunkedRow& row, float floor) {
    // exp may be off by the last bits, so a chunk's largest weight may lie that much above its peak.
    constexpr float kSlack = 1.0f - 1.0f / (1 << 18);
    floor = std::max(floor, std::numeric_limits<float>::min());
    scratch_.chunks.clear();
    for (int64_t chunk = 0; chunk < row.num_chunks(); ++chunk)
      if (row.peaks[chunk] >= floor * kSlack) scratch_.chunks.push_back(int32_t(chunk));
    num_chunks_ = int64_t(scratch_.chunks.size());
    if (int64_t(scratch_.weights.size()) < size()) scratch_.weights.resize(size_t(size()));
    for (int64_t i = 0; i < num_chunks_; ++i) row.read_chunk(chunk_weights(i), scratch_.chunks[size_t(i)]);
    if (int64_t(scratch_.masses.size()) < num_chunks_) scratch_.masses.resize(size_t(num_chunks_));
    keep_at_least(floor);
  }

  double mass() const {
    double sum = 0;
    for (int64_t i = 0; i < num_chunks_; ++i) sum += scratch_.masses[size_t(i)];
    return sum;
  }

  void keep_count(int64_t count) { cut<true>(double(count)); }
  // Keep the fewest that reach `mass`: the best; of equals the first.
  void keep_mass(double mass) { cut<false>(mass); }

  void keep_at_least(float floor) {
    kernels_->keep_weights(scratch_.masses.data(), scratch_.weights.data(), floor, num_chunks_);
  }

  // The first token up to which the weights exceed the share `uniform` of their sum.
  int32_t pick(double uniform) const {
    const double target = uniform * mass();
    double before = 0;
    const auto mass_of = [&](int64_t i) { return scratch_.masses[size_t(i)]; };
    const int64_t chosen = pick_value(num_chunks_, mass_of, target, before);
    const float* weights = chunk_weights(chosen);
    const int64_t inside = pick_value(kChunk, [&](int64_t i) { return weights[i]; }, target, before);
    return int32_t(scratch_.chunks[size_t(chosen)] * kChunk + inside);
  }

 private:
  // The order of weights is that of their bits, which are below 2^30 since no weight exceeds 1: four
  // digits of 8 bits.
  static uint32_t key_of(float weight) { return float_to_bits(weight) << 2; }

  // Keep the best until the amounts (1 each, or the weights) reach `limit`.
  template <bool kIsCount>
  void cut(double limit) {
    if (!kIsCount) {
      double left = limit;
      const int64_t count = copy_near_cut(left);
      if (count > 0 && left > 0 && cut_rest<false>(count, left)) return;
    }
    cut_rest<kIsCount>(copy_candidates(), limit);
  }

  // What is cut for: the smallest weight that stays, digit by digit: each adds up the amounts of those of
  // `rest` that share the last ones. False, and nothing is cut, if they don't reach `limit`.
  template <bool kIsCount>
  bool cut_rest(int64_t count, double limit) {
    uint32_t lowest = 0;
    for (int shift = 24; shift >= 0; shift -= 8) {
      fill_bins<kIsCount>(count, shift);
      const int64_t digit = find_digit(limit, shift < 24);
      if (digit < 0) return false;
      lowest |= uint32_t(digit) << shift;
      count = keep_digit(count, shift, digit);
    }
    const float floor = bits_to_float(lowest >> 2);
    // All that are left are equal.
    const double ties = std::ceil(kIsCount ? limit : limit / double(floor));
    if (ties < double(count)) drop_ties(floor, std::max(int64_t(ties), int64_t(1)));
    keep_at_least(floor);
    return true;
  }

  struct Range {
    float low, high;
  };

  // Copy the weights near the cut to `rest` and take those above them off `limit`. If the guess was wrong,
  // nothing of the limit is left, or they don't reach it. Gives how many; 0 where guessing doesn't pay.
  int64_t copy_near_cut(double& limit) {
    if (num_chunks_ < kManyChunks) return 0;
    const Range range = guess_cut(limit / mass());
    if (range.high == 0) return 0;
    double above = 0;
    const int64_t count = kernels_->split_weights(grow_rest(), &above, scratch_.weights.data(), range.low,
                                                  range.high, num_chunks_);
    limit -= above;
    return count;
  }

  // Between which weights the best that reach this share of the mass end, by a sample of the chunks; none where
  // most weights are 0, which copy_candidates() leaves out quickly.
  Range guess_cut(double share) {
    auto& bins = scratch_.coarse_bins;
    std::fill_n(bins, kCoarseDigits, 0.0);
    double total = 0;
    int64_t size = 0, found = 0;
    for (int64_t i = 0; i < num_chunks_; i += kSampledChunk, size += kChunk)
      for (const float *weight = chunk_weights(i), *end = weight + kChunk; weight < end; ++weight) {
        bins[float_to_bits(*weight) >> kCoarseShift] += double(*weight);
        total += double(*weight);
        found += *weight > 0;
      }
    if (2 * found < size) return {0, 0};
    // A share of a sample of n is off by at most 1 / (2 sqrt(n)) in two of three cases, near 0 or 1 by less.
    const double slack = 1 / std::sqrt(double(found));
    int64_t digit = kCoarseDigits;
    double above = 0;
    while (digit > 0 && above + bins[digit - 1] < (share - slack) * total) above += bins[--digit];
    const float high = bits_to_float(uint32_t(digit) << kCoarseShift);
    while (digit > 0 && above < (share + slack) * total) above += bins[--digit];
    return {bits_to_float(std::max(uint32_t(digit) << kCoarseShift, 1u)), high};
  }

  float* grow_rest() {
    if (int64_t(scratch_.rest.size()) < size()) scratch_.rest.resize(size_t(size()));
    return scratch_.rest.data();
  }

  // Copy the weights that aren't 0 to `rest`; gives how many.
  int64_t copy_candidates() {
    constexpr int64_t kBlock = 16;  // of which most are empty
    float* rest = grow_rest();
    int64_t count = 0;
    for (const float *block = scratch_.weights.data(), *end = block + size(); block < end; block += kBlock) {
      float any = 0;
      for (int64_t i = 0; i < kBlock; ++i) any = std::max(any, block[i]);
      if (any == 0) continue;
      for (int64_t i = 0; i < kBlock; ++i) {
        rest[count] = block[i];
        count += block[i] > 0;
      }
    }
    return count;
  }

  // Several bins per digit, because adding to the one before would wait for it.
  template <bool kIsCount>
  void fill_bins(int64_t count, int shift) {
    const float* weights = scratch_.rest.data();
    auto& bins = scratch_.bins;
    std::fill_n(&bins[0][0], kBinSets * kDigits, 0.0);
    const auto add = [&](int64_t set, int64_t i) {
      bins[set][(key_of(weights[i]) >> shift) % kDigits] += kIsCount ? 1.0 : double(weights[i]);
    };
    int64_t i = 0;
    for (; i + kBinSets <= count; i += kBinSets)
      for (int64_t set = 0; set < kBinSets; ++set) add(set, i + set);
    for (; i < count; ++i) add(0, i);
    for (int64_t digit = 0; digit < kDigits; ++digit)
      bins[0][digit] = (bins[0][digit] + bins[1][digit]) + (bins[2][digit] + bins[3][digit]);
  }

  // Find the digit at which the amounts from above reach `limit`, and take those above off it.
  // If all together don't: -1, or the lowest one if only rounding can be the reason.
  int64_t find_digit(double& limit, bool must_reach) const {
    int64_t last = -1;
    double before = limit;
    for (int64_t digit = kDigits - 1; digit >= 0; --digit) {
      const double amount = scratch_.bins[0][digit];
      if (amount == 0) continue;
      if (amount >= limit) return digit;
      last = digit;
      before = limit;
      limit -= amount;
    }
    if (!must_reach) return -1;
    limit = before;
    return last;
  }

  // Keep those of `rest` with a digit; gives how many.
  int64_t keep_digit(int64_t count, int shift, int64_t digit) {
    float* rest = scratch_.rest.data();
    int64_t kept = 0;
    for (int64_t i = 0; i < count; ++i) {
      const float weight = rest[i];
      rest[kept] = weight;
      kept += (key_of(weight) >> shift) % kDigits == uint32_t(digit);
    }
    return kept;
  }

  // Of the weights that equal `floor` keep the first `ties`.
  void drop_ties(float floor, int64_t ties) {
    for (int64_t i = 0; i < size(); ++i) {
      float& weight = scratch_.weights[size_t(i)];
      if (weight == floor && --ties < 0) weight = 0;
    }
  }

  int64_t size() const { return num_chunks_ * kChunk; }
  float* chunk_weights(int64_t i) { return scratch_.weights.data() + i * kChunk; }
  const float* chunk_weights(int64_t i) const { return scratch_.weights.data() + i * kChunk; }

  const Kernels* kernels_;
  SamplingScratch& scratch_;
  int64_t num_chunks_ = 0;
};

}  // namespace
}  // namespace outrider
