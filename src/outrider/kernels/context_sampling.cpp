// Sampling of rows of logits: penalties, one pass for masks and maxima, one for the sums of weights where a rule
// needs them, both shared out in pieces of rows, then the choice, row by row.
#include "selection.h"

namespace outrider {
namespace {

constexpr int64_t kPieceChunks = 64;  // of a row that one task reads: 8,192 logits

int64_t num_chunks(int64_t vocab_size) { return (vocab_size + kChunk - 1) / kChunk; }
int64_t num_pieces(int64_t vocab_size) { return (num_chunks(vocab_size) + kPieceChunks - 1) / kPieceChunks; }

bool is_greedy(const SamplingRule& rule) { return rule.temperature == 0 || rule.count == 1; }

bool has_count(const SamplingRule& rule, int64_t vocab_size) {
  return rule.count > 0 && rule.count < double(vocab_size);
}

bool needs_sums(const SamplingRule& rule, int64_t vocab_size) {
  if (is_greedy(rule) || has_count(rule, vocab_size)) return false;
  return rule.share < 1 || rule.least == 0;
}

// A tiny temperature sends all but the best to weight 0; infinity would make the best one NaN.
float scale_of(const SamplingRule& rule) { return float(std::min(1 / rule.temperature, 3e38)); }

// Inverse CDF over all tokens: by the sums of chunks first, then inside one.
int32_t pick_from_all(const ChunkedRow& row, double uniform) {
  const double target = uniform * total_weight(row.sums, row.num_chunks());
  double before = 0;
  const int64_t chosen = pick_value(row.num_chunks(), [&](int64_t i) { return row.sums[i]; }, target, before);
  float weights[kChunk];
  row.read_chunk(weights, chosen);
  return int32_t(chosen * kChunk + pick_value(kChunk, [&](int64_t i) { return weights[i]; }, target, before));
}

// The largest value; NaN if any of them is.
float maximum(const float* values, int64_t count) {
  float max = values[0];
  for (int64_t i = 1; i < count && max == max; ++i) max = values[i] <= max ? max : values[i];
  return max;
}

// The `count`-th largest value; the smallest possible if there are fewer.
float nth_largest(std::vector<float>& copy, const float* values, int64_t size, int64_t count) {
  if (count > size) return -INFINITY;
  copy.assign(values, values + size);
  std::nth_element(copy.begin(), copy.begin() + (count - 1), copy.end(), std::greater<float>());
  return copy[size_t(count - 1)];
}

// A weight above which the tokens reach this share of the sum, by a wide margin for rounding.
float share_floor(const ChunkedRow& row, double share, double total) {
  for (int64_t f = 0; f < kFloors; ++f) {
    double above = 0;
    for (int64_t piece = 0; piece < num_pieces(row.size); ++piece)
      above += double(row.above[piece * kFloors + f]);
    if (above >= 1.0001 * share * total) return kFloor[f];
  }
  // Tokens below this floor can't hold more than what need not be reached.
  return float((1 - share) * total / double(row.size) * 0.999);
}

int32_t choose(const ChunkedRow& row, const SamplingRule& rule, SamplingScratch& scratch) {
  const bool has_top = has_count(rule, row.size);
  if (!has_top && rule.share >= 1 && rule.least == 0 && rule.square == 0)
    return pick_from_all(row, rule.uniform);
  Candidates candidates(row.kernels, scratch);
  const int64_t chunks = row.num_chunks();
  if (has_top) {
    // So many chunks have a token that reaches this floor.
    candidates.gather(row, nth_largest(scratch.rest, row.peaks, chunks, int64_t(rule.count)));
    candidates.keep_count(int64_t(rule.count));
    if (rule.share < 1) candidates.keep_mass(rule.share * candidates.mass());
  } else if (rule.share < 1) {
    const double total = total_weight(row.sums, chunks);
    candidates.gather(row, share_floor(row, rule.share, total));
    candidates.keep_mass(rule.share * total);
  } else if (rule.least == 0) {
    candidates.gather(row, float(rule.square / total_weight(row.sums, chunks)));
    return candidates.pick(rule.uniform);
  } else {
    candidates.gather(row, float(rule.least));
  }
  if (rule.least > 0 && (has_top || rule.share < 1)) candidates.keep_at_least(float(rule.least));
  if (rule.square > 0) candidates.keep_at_least(float(rule.square / candidates.mass()));
  return candidates.pick(rule.uniform);
}

// The ids of the best logits, best first; of equals the first.
void rank_row(int32_t* out, const ChunkedRow& row, int64_t count, SamplingScratch& scratch) {
  const float floor = nth_largest(scratch.rest, row.peaks, row.num_chunks(), count);
  auto& list = scratch.ranking;
  list.clear();
  int64_t ties = count;  // no more tokens on the floor are needed
  for (int64_t chunk = 0; chunk < row.num_chunks(); ++chunk) {
    if (row.peaks[chunk] < floor) continue;
    for (int64_t i = chunk * kChunk; i < std::min(row.size, (chunk + 1) * kChunk); ++i)
      if (row.x[i] > floor || (row.x[i] == floor && --ties >= 0)) list.emplace_back(row.x[i], int32_t(i));
  }
  const int64_t found = std::min(count, int64_t(list.size()));
  std::partial_sort(list.begin(), list.begin() + found, list.end(), [](const auto& a, const auto& b) {
    return a.first > b.first || (a.first == b.first && a.second < b.second);
  });
  for (int64_t i = 0; i < found; ++i) out[i] = list[size_t(i)].second;
}

}  // namespace

Context::Peak Context::find_peak(const float* x, const float* maxima, int64_t size) {
  const float max = maximum(maxima, num_chunks(size));
  if (!std::isfinite(max)) return {max, -1};
  const int64_t begin = (std::find(maxima, maxima + num_chunks(size), max) - maxima) * kChunk;
  return {max, int32_t(std::find(x + begin, x + size, max) - x)};
}

void Context::find_peaks(const LogitRows& logits, const TokenMasks& masks) {
  const int64_t size = logits.vocab_size, chunks = num_chunks(size), pieces = num_pieces(size);
  float* maxima = grow(chunk_maxima_, logits.num_rows * chunks);
  float* unmasked = grow(unmasked_maxima_, logits.num_rows * pieces);
  Peak* peaks = grow(peaks_, logits.num_rows);
  for_rows(logits.num_rows * pieces, std::min(size, kPieceChunks * kChunk), [&](int64_t task) {
    const int64_t row = task / pieces, chunk = task % pieces * kPieceChunks, begin = chunk * kChunk;
    const int64_t count = std::min(kPieceChunks * kChunk, size - begin);
    float *out = maxima + row * chunks + chunk, *x = logits.row(row) + begin;
    if (const uint32_t* mask = masks.row(row))
      unmasked[task] = kernels_->mask_maxima(out, x, mask + begin / 32, count);
    else
      kernels_->chunk_maxima(out, x, count);
  });
  for (int64_t row = 0; row < logits.num_rows; ++row) {
    const bool has_mask = masks.row(row) != nullptr;
    // A mask must not hide what the model did wrong.
    peaks[row] = has_mask && !std::isfinite(maximum(unmasked + row * pieces, pieces))
                     ? Peak{NAN, -1}
                     : find_peak(logits.row(row), maxima + row * chunks, size);
    if (has_mask && peaks[row].max == -INFINITY) peaks[row].token_id = kNoneAllowed;
  }
}

template <typename RowSums>
void Context::add_chunks(const LogitRows& logits, const RowSums& row_sums) {
  const int64_t size = logits.vocab_size, chunks = num_chunks(size), pieces = num_pieces(size);
  float* sums = grow(chunk_sums_, logits.num_rows * chunks);
  float* above = grow(floor_sums_, logits.num_rows * pieces * kFloors);
  for_rows(logits.num_rows * pieces, std::min(size, kPieceChunks * kChunk), [&](int64_t task) {
    const int64_t row = task / pieces, chunk = task % pieces * kPieceChunks;
    const int64_t count = std::min(kPieceChunks * kChunk, size - chunk * kChunk);
    const Peak& peak = peaks_[size_t(row)];
    const WeightSums wanted = row_sums(row);
    if (peak.token_id >= 0 && wanted.are_needed)
      kernels_->chunk_sums(sums + row * chunks + chunk, wanted.with_floors ? above + task * kFloors : nullptr,
                           logits.row(row) + chunk * kChunk, peak.max, wanted.scale, count);
  });
}

void penalise(float* before, float* logits, const PenaltyTable& table, const PenaltyFactors& factors) {
  constexpr float kBound = 1e30f;  // infinities would look like a broken model
  for (int64_t i = 0; i < table.size; ++i) {
    const TokenPenalty& penalty = table.penalties[i];
    float& logit = logits[table.token_ids[i]];
    before[i] = logit;
    float x = logit + penalty.bias;
    // What a mask made -inf stays so.
    if (factors.repetition != 1 && penalty.is_seen != 0 && std::isfinite(x)) {
      x = x > 0 ? x / factors.repetition : x * factors.repetition;
      x = std::min(std::max(x, -kBound), kBound);
    }
    x -= factors.frequency * penalty.count;
    x -= penalty.count > 0 ? factors.presence : 0.0f;
    logit = x;
  }
}

void Context::choose_tokens(int32_t* token_ids, const LogitRows& logits, const TokenMasks& masks,
                            const SamplingRule* rules) {
  const int64_t size = logits.vocab_size, chunks = num_chunks(size);
  find_peaks(logits, masks);
  bool any_sums = false, any_choice = false;
  for (int64_t row = 0; row < logits.num_rows; ++row) {
    token_ids[row] = peaks_[size_t(row)].token_id;
    any_sums |= needs_sums(rules[row], size);
    any_choice |= !is_greedy(rules[row]);
  }
  if (!any_choice) return;
  if (any_sums)
    add_chunks(logits, [&](int64_t row) {
      const SamplingRule& rule = rules[row];
      return WeightSums{needs_sums(rule, size), rule.share < 1, scale_of(rule)};
    });
  const float *sums = chunk_sums_.data(), *above = floor_sums_.data();
  const int64_t floors = num_pieces(size) * kFloors;
  float* maxima = chunk_maxima_.data();
  sampling_.resize(size_t(num_threads()));
  pool_.run(logits.num_rows, [&](int64_t row, int thread) {
    const SamplingRule& rule = rules[row];
    if (token_ids[row] < 0 || is_greedy(rule)) return;
    float* peaks = maxima + row * chunks;
    const float max = peaks_[size_t(row)].max, scale = scale_of(rule);
    kernels_->token_weights(peaks, peaks, max, scale, chunks);
    const ChunkedRow chunked{
        kernels_, logits.row(row), size, peaks, sums + row * chunks, above + row * floors, max, scale};
    token_ids[row] = choose(chunked, rule, sampling_[size_t(thread)]);
  });
}

void Context::rank_tokens(int32_t* token_ids, double* totals, const LogitRows& logits, int64_t count) {
  const int64_t size = logits.vocab_size, chunks = num_chunks(size);
  find_peaks(logits, {nullptr, nullptr, 0});
  add_chunks(logits, [](int64_t) { return WeightSums{true, false, 1.0f}; });
  const float *maxima = chunk_maxima_.data(), *sums = chunk_sums_.data();
  sampling_.resize(size_t(num_threads()));
  pool_.run(logits.num_rows, [&](int64_t row, int thread) {
    std::fill_n(token_ids + row * count, count, -1);
    totals[row] = NAN;
    if (peaks_[size_t(row)].token_id < 0) return;
    totals[row] = total_weight(sums + row * chunks, chunks);
    const ChunkedRow chunked{kernels_, logits.row(row), size, maxima + row * chunks, nullptr, nullptr, 0, 0};
    if (count > 0) rank_row(token_ids + row * count, chunked, count, sampling_[size_t(thread)]);
  });
}

}  // namespace outrider
