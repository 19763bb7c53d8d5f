"""Routing: which experts a token meets, its input's factor and the order of rows.

Every test runs the kernel and its NumPy twin, and compares them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from outrider import kernels
from outrider.kernels import reference

CONTEXT = kernels.Context(1)


class Routing(NamedTuple):
    rows: NDArray[np.int32]
    factors: NDArray[np.float32]
    cu_rows: NDArray[np.int32]


def route(logits: NDArray[np.float32], top_k: int) -> Routing:
    num_rows = len(logits) * top_k
    routing = Routing(
        np.full(num_rows, -7, np.int32),
        np.full(num_rows, np.nan, np.float32),
        np.full(logits.shape[1] + 1, -7, np.int32),
    )
    kernels.route(CONTEXT, logits, top_k, *routing)
    twin = Routing(*reference.route(logits, top_k))
    np.testing.assert_array_equal(routing.rows, twin.rows)
    np.testing.assert_array_equal(routing.cu_rows, twin.cu_rows)
    np.testing.assert_allclose(routing.factors, twin.factors, rtol=1e-7)
    return routing


def logits_of(*rows: list[float]) -> NDArray[np.float32]:
    return np.array(rows, np.float32)


def test_rows_are_sorted_by_expert_and_then_by_token() -> None:
    routing = route(logits_of([0, 2, 1], [3, 0, 0], [0, 5, 1], [9, 8, 7]), 1)
    assert routing.rows.tolist() == [1, 3, 0, 2]
    assert routing.cu_rows.tolist() == [0, 2, 4, 4]
    assert routing.rows.dtype == routing.cu_rows.dtype == np.int32


def test_factor_is_the_sigmoid_of_the_chosen_logit_alone() -> None:
    routing = route(logits_of([-3, -1, -2]), 2)
    assert routing.rows.tolist() == [0, 0]
    np.testing.assert_allclose(routing.factors, 1 / (1 + np.exp([1.0, 2.0])), rtol=1e-6)
    assert routing.factors.dtype == np.float32


def test_of_equal_logits_the_lowest_index_wins() -> None:
    assert route(logits_of([1, 4, 4, 4]), 1).cu_rows.tolist() == [0, 0, 1, 1, 1]
    assert route(logits_of([1, 4, 4, 4]), 2).cu_rows.tolist() == [0, 0, 1, 2, 2]


def test_very_negative_logits_give_zero_and_very_large_ones_one() -> None:
    assert route(logits_of([-1e6, -1e6]), 1).factors.tolist() == [0.0]
    assert route(logits_of([1e6, 0]), 1).factors.tolist() == [1.0]


@given(
    logits=hnp.arrays(
        np.float32,
        st.tuples(st.integers(0, 30), st.integers(1, 9)),
        elements=st.floats(-9, 9, width=32),
    ),
    data=st.data(),
)
def test_every_token_meets_its_best_experts_once(
    logits: NDArray[np.float32], data: st.DataObject
) -> None:
    top_k = data.draw(st.integers(1, logits.shape[1]))
    routing = route(logits, top_k)
    assert routing.cu_rows[-1] == len(routing.rows) == len(logits) * top_k
    experts = np.repeat(np.arange(logits.shape[1]), np.diff(routing.cu_rows))
    for token, row in enumerate(logits):
        best = sorted(range(len(row)), key=lambda e: (-row[e], e))[:top_k]
        assert sorted(experts[routing.rows == token]) == sorted(best)
        alone = route(row[None], top_k)
        np.testing.assert_array_equal(routing.factors[routing.rows == token], alone.factors)
    for expert in range(logits.shape[1]):
        assert (np.diff(routing.rows[experts == expert]) > 0).all()


def test_a_token_may_meet_no_expert_at_all() -> None:
    routing = route(logits_of([1, 2, 3], [0, 1, 0]), 0)
    assert routing.rows.tolist() == routing.factors.tolist() == []
    assert routing.cu_rows.tolist() == [0, 0, 0, 0]


def test_arrays_that_do_not_fit_are_refused_by_name() -> None:
    logits, ids = np.zeros((2, 3), np.float32), np.zeros(4, np.int32)
    factors = np.zeros(2, np.float32)
    for top_k, rows, cu_rows, message in [
        (4, ids, ids, "top_k"),
        (-1, ids, ids, "top_k"),
        (1, ids[:1], ids, "rows: one per token"),
        (2, ids, ids, "factors"),
        (1, ids[:2], ids[:3], "cu_rows: length"),
    ]:
        with pytest.raises(ValueError, match=message):
            kernels.route(CONTEXT, logits, top_k, rows, factors, cu_rows)
    with pytest.raises(ValueError, match="factors"):
        kernels.scale_rows(CONTEXT, logits, factors[:1])


def test_rows_are_scaled_in_place() -> None:
    x = np.random.default_rng(0).standard_normal((5, 37)).astype(np.float32)
    factors = np.array([1, 0.5, -2, 1.1, 3], np.float32)
    expected = x.copy()
    reference.scale_rows(expected, factors)
    kernels.scale_rows(CONTEXT, x, factors)
    np.testing.assert_array_equal(x, expected)
