"""Routing: which experts a token meets, its input's factor and the order of rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from outrider.model.moe import route


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
