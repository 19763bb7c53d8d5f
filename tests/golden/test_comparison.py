"""The comparison itself: what it accepts, what it refuses, and its arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from golden.comparison import Golden, check_greedy, mean_nll

GOLDEN: Golden = {
    "prompt_token_ids": [7],
    "token_ids": [1, 2, 3, 4],
    "runner_up_ids": [5, 6, 8, 9],
    "gaps": [1.0, 0.0009, 1.0, 0.0001],
}


def never(prompt: list[int], max_tokens: int) -> list[int]:
    raise AssertionError("nothing had to be continued")


def test_equal_tokens_are_accepted_without_near_ties() -> None:
    assert check_greedy(GOLDEN, [1, 2, 3, 4], never) == []


def test_a_near_tie_is_continued_behind_the_golden_token() -> None:
    def continue_greedily(prompt: list[int], max_tokens: int) -> list[int]:
        assert (prompt, max_tokens) == ([7, 1, 2], 2)
        return [3, 9]

    assert check_greedy(GOLDEN, [1, 6, 0, 0], continue_greedily) == [1, 3]


@pytest.mark.parametrize("answer", [[5, 2, 3, 4], [1, 7, 3, 4]], ids=["large gap", "third best"])
def test_any_other_difference_is_refused(answer: list[int]) -> None:
    with pytest.raises(AssertionError):
        check_greedy(GOLDEN, answer, never)


def test_mean_nll_of_uniform_logits_is_the_log_of_the_vocabulary() -> None:
    logits = np.full((301, 50), 1000.0, np.float32)
    assert mean_nll(logits, [0] * 301) == pytest.approx(np.log(50))


def test_mean_nll_looks_at_the_next_token() -> None:
    logits = np.zeros((3, 4), np.float32)
    logits[0, 2] = logits[1, 3] = 50.0
    assert mean_nll(logits, [1, 2, 3]) == pytest.approx(0, abs=1e-12)
    assert mean_nll(logits, [1, 2, 2]) == pytest.approx(25)
