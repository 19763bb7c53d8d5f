// Sampling: rules and rows of logits in, token ids out.
#include "bindings.h"

namespace outrider {
namespace {

using Rules = Array<const double, nb::ndim<2>>;

void check_vocabulary(const ConstMatrix& logits) {
  require(logits.shape(1) >= 1 && logits.shape(1) <= INT32_MAX, "logits: a row needs 1 to 2^31 - 1 columns");
}

void check_rule(const SamplingRule& rule) {
  require(rule.temperature >= 0 && rule.count >= 0 && rule.share > 0 && rule.least >= 0 && rule.least <= 1 &&
              rule.square >= 0 && rule.square <= 1 && rule.uniform >= 0 && rule.uniform < 1,
          "rules: a value is out of range");
}

void choose_tokens(Context& context, const ConstMatrix& logits, const Rules& rules,
                   const Array<int32_t, nb::ndim<1>>& token_ids) {
  check_vocabulary(logits);
  require(rules.shape(0) == logits.shape(0) && rules.shape(1) == 6,
          "rules: shape must be [rows of logits, 6]");
  require(token_ids.shape(0) == logits.shape(0), "token_ids: one for each row of logits");
  static_assert(sizeof(SamplingRule) == 6 * sizeof(double), "a rule is a row of six numbers");
  perform(context, [=](Context& c) {
    const auto* rule = reinterpret_cast<const SamplingRule*>(rules.data());
    for (size_t r = 0; r < rules.shape(0); ++r) check_rule(rule[r]);
    const LogitRows rows{logits.data(), nullptr, int64_t(logits.shape(0)), int64_t(logits.shape(1))};
    c.choose_tokens(token_ids.data(), rows, rule);
  });
}

void rank_tokens(Context& context, const ConstMatrix& logits, const Ids& rows,
                 const Array<int32_t, nb::ndim<2>>& token_ids, const Array<double, nb::ndim<1>>& totals) {
  check_vocabulary(logits);
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
        "token_ids"_a.noconvert());
  m.def("rank_tokens", &rank_tokens, "context"_a, "logits"_a.noconvert(), "rows"_a.noconvert(),
        "token_ids"_a.noconvert(), "totals"_a.noconvert());
}

}  // namespace outrider
