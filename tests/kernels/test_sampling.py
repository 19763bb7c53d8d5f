"""The sampling kernels against their NumPy twins, which sort; the same bits everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from outrider import kernels
from outrider.kernels import reference_sampling as reference
from outrider.kernels.reference_sampling import Rule

ISAS = kernels.supported_isas()
CONTEXTS = [kernels.Context(1 + number % 2, isa) for number, isa in enumerate(ISAS)]
SIZES = [1, 2, 15, 16, 17, 127, 128, 129, 1000, 8192, 8193, 20000]
INF = np.float32(np.inf)

rules = st.builds(
    Rule,
    temperature=st.sampled_from([0.0, 1e-45, 0.1, 0.7, 1.0, 5.0]),
    keep=st.sampled_from([0, 0, 0, 1, 2, 40, 200, 5000, 10**6]),
    share=st.sampled_from([1.0, 1.0, 7.0, 0.999, 0.95, 0.5, 0.1, 1e-9, 1 - 1e-12]),
    least=st.sampled_from([0.0, 0.0, 1e-300, 1e-6, 0.05, 1.0]),
    square=st.sampled_from([0.0, 0.0, 1e-4, 0.2, 1.0]),
    uniform=st.sampled_from([0.0, 1 - 2.0**-53]) | st.floats(0, 1, exclude_max=True),
)


def normal(size: int, scale: float) -> NDArray[np.float32]:
    generator = np.random.default_rng(size)
    return (generator.standard_normal(size) * scale).astype(np.float32)


def make_row(kind: str, size: int) -> NDArray[np.float32]:
    row = normal(size, {"flat": 1e-4, "calm": 0.3, "steep": 40.0}.get(kind, 3.0))
    if kind == "equal":
        row[:] = 2.5
    elif kind == "few values":
        row = np.round(row / 2) * 2
    elif kind == "masked":
        row[np.arange(size) % 97 != size % 97] = -INF
        row[size // 2] = 1
    elif kind == "one":
        row[:] = -INF
        row[size - 1] = -7
    elif kind == "huge range":
        row = np.copysign(np.float32(10) ** (row * 10).clip(-38, 38), row)
    elif kind == "extreme":
        row[:] = -3.4e38
        row[size // 3 :: 50] = 3.4e38
    elif kind == "zeros":
        row[:] = 0.0
        row[::2] = -0.0
    return row.astype(np.float32)


KINDS = ["flat", "calm", "normal", "steep", "equal", "few values", "masked", "one"]
KINDS += ["huge range", "extreme", "zeros"]


def choose(
    context: kernels.Context, logits: NDArray[np.float32], table: list[Rule]
) -> NDArray[np.int32]:
    no_mask = np.full(len(logits), -1, np.int32)
    return choose_allowed(context, logits, table, no_mask, np.empty((0, 0), np.uint32))


def choose_allowed(
    context: kernels.Context,
    logits: NDArray[np.float32],
    table: list[Rule],
    of_rows: NDArray[np.int32],
    masks: NDArray[np.uint32],
) -> NDArray[np.int32]:
    token_ids = np.empty(len(logits), np.int32)
    rules = np.array(table, np.float64)
    kernels.choose_tokens(context, logits, rules, of_rows, masks, token_ids)
    return token_ids


@given(kind=st.sampled_from(KINDS), size=st.sampled_from(SIZES), rule=rules)
@settings(max_examples=400, deadline=None)
def test_a_token_is_the_one_that_sorting_gives(kind: str, size: int, rule: Rule) -> None:
    row = make_row(kind, size)
    expected = reference.choose_token(row, rule)
    assert np.isfinite(row[expected])
    for context in CONTEXTS:
        assert choose(context, row[None], [rule]) == [expected], context.isa


@given(
    values=st.lists(st.sampled_from([0.0, 1.0, 1.5, -2.0, 20.0, -INF]), min_size=1, max_size=300),
    rule=rules,
)
@settings(max_examples=200, deadline=None)
def test_a_token_of_rows_with_many_ties_is_the_one_that_sorting_gives(
    values: list[float], rule: Rule
) -> None:
    row = np.array(values, np.float32)
    expected = reference.choose_token(row, rule)
    assert (expected < 0) == bool((row == -INF).all())
    for context in CONTEXTS:
        assert choose(context, row[None], [rule]) == [expected], context.isa


@pytest.mark.parametrize("offset", [-4.0, -0.3, 0.3, 4.0])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95, 0.9999])
def test_a_cut_is_found_where_the_sampled_chunks_are_unlike_the_rest(
    offset: float, share: float
) -> None:
    row = normal(40_000, 0.5)
    chunks = np.arange(len(row)) // reference.CHUNK
    row[chunks % 16 == 0] += np.float32(offset)
    table = [Rule(1.0, share=share, uniform=uniform) for uniform in (0.0, 0.37, 1 - 2.0**-53)]
    expected = [reference.choose_token(row, rule) for rule in table]
    for context in CONTEXTS:
        assert choose(context, np.stack([row] * 3), table).tolist() == expected, context.isa


@pytest.mark.parametrize("size", [5, 200, 20000])
@pytest.mark.parametrize("keep", [2, 3, 130, 1000])
def test_of_equal_logits_the_lower_ids_are_kept(size: int, keep: int) -> None:
    uniforms = np.linspace(0, 1, 4 * keep, endpoint=False)
    table = [Rule(1.0, keep, uniform=float(uniform)) for uniform in uniforms]
    for context in CONTEXTS:
        chosen = choose(context, np.zeros((len(table), size), np.float32), table)
        assert set(chosen.tolist()) == set(range(min(keep, size)))


@pytest.mark.parametrize("size", [33, 1000, 20000])
def test_rows_are_independent_of_batch_threads_and_instruction_set(size: int) -> None:
    generator = np.random.default_rng(size)
    logits = np.stack([make_row(kind, size) for kind in KINDS for _ in range(4)])
    table = [
        Rule(
            float(generator.choice([0, 0.7, 1, 3])),
            int(generator.choice([0, 0, 40])),
            float(generator.choice([1, 0.9])),
            float(generator.choice([0, 0.01])),
            float(generator.choice([0, 0.1])),
            float(generator.random()),
        )
        for _ in logits
    ]
    expected = [reference.choose_token(row, rule) for row, rule in zip(logits, table, strict=True)]
    for isa in ISAS:
        for num_threads in (1, 2, 3):
            context = kernels.Context(num_threads, isa)
            assert choose(context, logits, table).tolist() == expected
        context = kernels.Context(1, isa)
        shifted = np.empty(size + 5, np.float32)[5:]  # at another alignment
        for row, rule, token_id in zip(logits, table, expected, strict=True):
            shifted[:] = row
            assert choose(context, shifted[None], [rule]) == [token_id]


@given(kind=st.sampled_from(KINDS), size=st.sampled_from(SIZES), count=st.integers(1, 40))
@settings(max_examples=200, deadline=None)
def test_ranks_are_those_of_sorting_and_sums_have_the_same_bits(
    kind: str, size: int, count: int
) -> None:
    row = make_row(kind, size)
    expected, total = reference.rank_tokens(row, count)
    logits = np.stack([np.zeros_like(row), row, row])
    for context in CONTEXTS:
        token_ids, totals = np.empty((2, count), np.int32), np.empty(2)
        rows = np.array([1, 0], np.int32)
        kernels.rank_tokens(context, logits, rows, token_ids, totals)
        np.testing.assert_array_equal(token_ids[0, : len(expected)], expected)
        assert (token_ids[0, len(expected) :] == -1).all()
        assert totals.tolist() == [total, size]
        no_ids = np.empty((2, 0), np.int32)
        kernels.rank_tokens(context, logits, rows, no_ids, totals)
        assert totals.tolist() == [total, size]


@given(
    kind=st.sampled_from(KINDS),
    size=st.sampled_from(SIZES),
    rule=rules,
    seed=st.integers(0, 2**32 - 1),
    share=st.sampled_from([0.0, 0.01, 0.5, 0.99, 1.0]),
    extra=st.integers(0, 3),
)
@settings(max_examples=200, deadline=None)
def test_a_masked_token_is_the_one_that_sorting_gives_of_those_allowed(
    kind: str, size: int, rule: Rule, seed: int, share: float, extra: int
) -> None:
    generator = np.random.default_rng(seed)
    logits = np.stack([make_row(kind, size) for _ in range(4)])
    logits[3, size // 2] = np.nan
    masks = np.packbits(
        generator.random((3, 32 * (-(-size // 32) + extra))) < share, axis=1, bitorder="little"
    ).view(np.uint32)
    of_rows = np.array([2, -1, 0, 1], np.int32)
    masked = [reference.mask_logits(logits[row], masks[of_rows[row]]) for row in (0, 2)]
    first, third = (reference.choose_token(row, rule) for row in masked)
    # What a mask leaves may be nothing, which isn't the model's fault.
    expected = [first, reference.choose_token(logits[1], rule), third, -1]
    for place, row in zip((0, 2), masked, strict=True):
        if (row == -INF).all():
            expected[place] = -2
    for context in CONTEXTS:
        chosen = choose_allowed(context, logits.copy(), [rule] * 4, of_rows, masks)
        assert chosen.tolist() == expected, context.isa


@given(
    logits=st.lists(
        st.sampled_from([-INF, INF, np.float32(np.nan), np.float32(-0.0)])
        | st.floats(-1e4, 1e4, width=32),
        min_size=1,
        max_size=50,
    ),
    factors=st.tuples(
        st.sampled_from([1.0, 1e-30, 0.5, 1.1, 1e6]),
        st.floats(-2, 2, width=32),
        st.floats(-2, 2, width=32),
    ),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=200, deadline=None)
def test_penalties_give_the_bits_of_their_specification(
    logits: list[float], factors: tuple[float, float, float], seed: int
) -> None:
    generator = np.random.default_rng(seed)
    row = np.array(logits, np.float32)
    ids = generator.permutation(len(row))[: 1 + len(row) // 2].astype(np.int32)
    penalties = np.stack(
        [generator.normal(0, 5, len(ids)), *generator.integers(0, 3, (2, len(ids)))], axis=1
    ).astype(np.float32)
    penalties[:, 1] = penalties[:, 1] > 0
    expected, before = row.copy(), np.empty(len(ids), np.float32)
    expected[ids] = reference.penalise(row[ids], penalties, np.array(factors, np.float32))
    penalised = row.copy()
    kernels.penalise(penalised, ids, penalties, np.array(factors, np.float32), before)
    np.testing.assert_array_equal(penalised.view(np.uint32), expected.view(np.uint32))
    np.testing.assert_array_equal(before, row[ids])


def test_the_exponential_is_exact_to_f32_and_never_above_one() -> None:
    x = -np.geomspace(1e-9, 87, 200_001).astype(np.float32)
    expected = np.exp(x.astype(np.float64))
    weights = reference.exp(x)
    assert (np.abs(weights / expected - 1)).max() < 2e-7
    assert weights.max() <= 1
    ends = np.array([0.0, -0.0, -87.001, -1e30, -np.inf], np.float32)
    assert reference.exp(ends).tolist() == [1, 1, 0, 0, 0]


@pytest.mark.parametrize("place", [0, 5, 127, 128, 9000, 19999])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_that_is_not_finite_has_no_token_and_the_others_have(
    value: float, place: int
) -> None:
    logits = np.zeros((3, 20000), np.float32)
    logits[1, place] = value
    table = [Rule(0.0), Rule(1.0, 3), Rule(1.0, share=0.5)]
    for context in CONTEXTS:
        for rule in table:
            assert (choose(context, logits, [rule] * 3) < 0).tolist() == [False, True, False]
        token_ids, totals = np.empty((3, 2), np.int32), np.empty(3)
        kernels.rank_tokens(context, logits, np.arange(3, dtype=np.int32), token_ids, totals)
        assert token_ids.tolist() == [[0, 1], [-1, -1], [0, 1]]
        assert np.isnan(totals).tolist() == [False, True, False]


def test_a_row_of_nothing_but_minus_infinity_has_no_token() -> None:
    logits = np.full((1, 300), -INF)
    for context in CONTEXTS:
        assert choose(context, logits, [Rule(1.0)]) == [-1]


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"keep": -1},
        {"share": 0.0},
        {"least": 1.5},
        {"square": -0.1},
        {"uniform": 1.0},
    ],
)
def test_a_rule_out_of_range_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="rules"):
        choose(CONTEXTS[0], np.zeros((1, 9), np.float32), [Rule(1.0)._replace(**change)])


def test_arrays_of_wrong_shapes_are_refused() -> None:
    context, logits = CONTEXTS[0], np.zeros((2, 9), np.float32)
    ids, totals, rules = np.empty(2, np.int32), np.empty(2), np.ones((2, 6)) / 2
    none, words = np.full(2, -1, np.int32), np.ones((2, 1), np.uint32)
    for table, of_rows, masks, found, name in (
        (rules[:1], none, words, ids, "rules"),
        (np.ascontiguousarray(rules[:, :5]), none, words, ids, "rules"),
        (rules, none, words, ids[:1], "token_ids"),
        (rules, none[:1], words, ids, "of_rows"),
        (rules, none + 3, words, ids, "of_rows"),
        (rules, none - 1, words, ids, "of_rows"),
        (rules, none + 1, words[:, :0], ids, "of_rows"),
    ):
        with pytest.raises(ValueError, match=name):
            kernels.choose_tokens(context, logits, table, of_rows, masks, found)
    with pytest.raises(ValueError, match="logits"):
        kernels.choose_tokens(context, np.empty((2, 0), np.float32), rules, none, words, ids)
    for rows in ([0, 2], [-1, 0]):
        with pytest.raises(ValueError, match="rows"):
            kernels.rank_tokens(
                context, logits, np.array(rows, np.int32), np.empty((2, 3), np.int32), totals
            )
    with pytest.raises(ValueError, match="totals"):
        kernels.rank_tokens(context, logits, ids[:1] * 0, np.empty((1, 3), np.int32), totals)
    ones = np.ones(3, np.float32)
    for row_ids, table, factors, before, name in (
        ([0, 9, 1], np.ones((3, 3)), ones, ones, "token_ids"),
        ([0, -1, 1], np.ones((3, 3)), ones, ones, "token_ids"),
        ([0, 1], np.ones((3, 3)), ones, ones[:2], "penalties"),
        ([0, 1, 2], np.ones((3, 2)), ones, ones, "penalties"),
        ([0, 1, 2], np.ones((3, 3)), ones[:2], ones, "factors"),
        ([0, 1, 2], np.ones((3, 3)), ones, ones[:2], "before"),
    ):
        with pytest.raises(ValueError, match=name):
            kernels.penalise(
                logits[0], np.array(row_ids, np.int32), table.astype(np.float32), factors, before
            )
    with pytest.raises(TypeError):
        kernels.choose_tokens(context, logits.astype(np.float64), rules, none, words, ids)  # type: ignore[arg-type]
