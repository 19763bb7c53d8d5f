// Sampling: rules and rows of logits in, token ids out.
#include "bindings.h"

namespace outrider {
namespace {

using Rules = Array<const double, nb::ndim<2>>;
using Masks = Array<const uint32_t, nb::ndim<2>>;
using TokenIds = Array<int32_t, nb::ndim<1>>;

void check_vocabulary(size_t num_columns) {
  require(num_columns >= 1 && num_columns <= INT32_MAX, "logits: a row needs 1 to 2^31 - 1 columns");
}

void check_rule(const SamplingRule& rule) {
  require(rule.temperature >= 0 && rule.count >= 0 && rule.share > 0 && rule.least >= 0 && rule.least <= 1 &&
              rule.square >= 0 && rule.square <= 1 && rule.uniform >= 0 && rule.uniform < 1,
          "rules: a value is out of range");
}

void penalise_row(const Vector& logits, const Ids& token_ids, const ConstMatrix& penalties,
                  const ConstVector& factors, const Vector& before) {
  const size_t size = token_ids.shape(0);
  require(penalties.shape(0) == size && penalties.shape(1) == 3, "penalties: shape must be [token_ids, 3]");
  require(factors.shape(0) == 3, "factors: repetition, frequency and presence");
  require(before.shape(0) == size, "before: one for each of token_ids");
  for (size_t i = 0; i < size; ++i)
    require(token_ids.data()[i] >= 0 && size_t(token_ids.data()[i]) < logits.shape(0),
            "token_ids: outside logits");
  static_assert(sizeof(TokenPenalty) == 3 * sizeof(float), "a penalty is a row of three numbers");
  const float* factor = factors.data();
  penalise(before.data(), logits.data(),
           {token_ids.data(), reinterpret_cast<const TokenPenalty*>(penalties.data()), int64_t(size)},
           {factor[0], factor[1], factor[2]});
}

bool has_mask(const Masks& masks, int32_t index, size_t num_columns) {
  return index >= 0 && size_t(index) < masks.shape(0) && masks.shape(1) >= (num_columns + 31) / 32;
}

// `of_rows` says which of the masks each row of logits has; -1: none.
void choose_tokens(Context& context, const Matrix& logits, const Rules& rules, const Ids& of_rows,
                   const Masks& masks, const TokenIds& token_ids) {
  check_vocabulary(logits.shape(1));
  const size_t num_rows = logits.shape(0);
  require(rules.shape(0) == num_rows && rules.shape(1) == 6, "rules: shape must be [rows of logits, 6]");
  require(token_ids.shape(0) == num_rows, "token_ids: one for each row of logits");
  require(of_rows.shape(0) == num_rows, "of_rows: one for each row of logits");
  static_assert(sizeof(SamplingRule) == 6 * sizeof(double), "a rule is a row of six numbers");
  perform(context, [=](Context& c) {
    const auto* rule = reinterpret_cast<const SamplingRule*>(rules.data());
    for (size_t r = 0; r < num_rows; ++r) {
      check_rule(rule[r]);
      require(of_rows.data()[r] == -1 || has_mask(masks, of_rows.data()[r], logits.shape(1)),
              "of_rows: no mask of a bit for each column of logits");
    }
    const LogitRows rows{logits.data(), nullptr, int64_t(num_rows), int64_t(logits.shape(1))};
    c.choose_tokens(token_ids.data(), rows, {masks.data(), of_rows.data(), int64_t(masks.shape(1))}, rule);
  });
}

void rank_tokens(Context& context, const Matrix& logits, const Ids& rows,
                 const Array<int32_t, nb::ndim<2>>& token_ids, const Array<double, nb::ndim<1>>& totals) {
  check_vocabulary(logits.shape(1));
  require(token_ids.shape(0) == rows.shape(0), "token_ids: one row for each of rows");
  require(totals.shape(0) == rows.shape(0), "totals: one for each of rows");
  perform(context, [=](Context& c) {
    for (size_t r = 0; r < rows.shape(0); ++r)
      require(rows.data()[r] >= 0 && size_t(rows.data()[r]) < logits.shape(0), "rows: row outside logits");
    const LogitRows chosen{logits.data(), rows.data(), int64_t(rows.shape(0)), int64_t(logits.shape(1))};
    c.rank_tokens(token_ids.data(), totals.data(), chosen, int64_t(token_ids.shape(1)));
  });
}

}  // namespace

void bind_sampling(nb::module_& m) {
  using namespace nb::literals;
  m.def("choose_tokens", &choose_tokens, "context"_a, "logits"_a.noconvert(), "rules"_a.noconvert(),
        "of_rows"_a.noconvert(), "masks"_a.noconvert(), "token_ids"_a.noconvert());
  m.def("penalise", &penalise_row, "logits"_a.noconvert(), "token_ids"_a.noconvert(),
        "penalties"_a.noconvert(), "factors"_a.noconvert(), "before"_a.noconvert());
  m.def("rank_tokens", &rank_tokens, "context"_a, "logits"_a.noconvert(), "rows"_a.noconvert(),
        "token_ids"_a.noconvert(), "totals"_a.noconvert());
}

}  // namespace outrider
