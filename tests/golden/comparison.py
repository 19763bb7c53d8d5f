"""How an engine's answers are held against goldens; needs neither torch nor transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

GREEDY_JSON = Path(__file__).parent / "greedy.json"
# Two engines that round differently may choose differently where the best two logits are closer.
NEAR_TIE = 1e-3
LOGITS_TOLERANCE = 1e-3
ROWS_AT_ONCE = 128  # of logits; copies of a whole text's would take a gigabyte

Golden = dict[str, Any]
Continue = Callable[[list[int], int], list[int]]


def read_goldens() -> Golden:
    """Read greedy.json."""
    golden: Golden = json.loads(GREEDY_JSON.read_text("utf-8"))
    return golden


def first_difference(golden: Golden, token_ids: list[int], begin: int = 0) -> int | None:
    """Find the first step from `begin` on whose token isn't the golden's."""
    expected = golden["token_ids"]
    assert len(token_ids) == len(expected) - begin
    for step, token_id in enumerate(token_ids, start=begin):
        if token_id != expected[step]:
            return step
    return None


def check_greedy(golden: Golden, token_ids: list[int], continue_greedily: Continue) -> list[int]:
    """Hold a greedy answer against a golden; give the steps at which a near tie was accepted.

    Where the golden's two best logits differ by less than `NEAR_TIE` the second best token is
    accepted too. The comparison then goes on behind the golden's own token at that step, with
    what `continue_greedily(prompt_token_ids, max_tokens)` answers to it.
    """
    accepted: list[int] = []
    begin = 0
    while (step := first_difference(golden, token_ids, begin)) is not None:
        token_id, gap = token_ids[step - begin], golden["gaps"][step]
        assert token_id == golden["runner_up_ids"][step], f"step {step}: {token_id} isn't close"
        assert gap < NEAR_TIE, f"step {step}: {token_id} is {gap} behind {golden['token_ids']}"
        accepted.append(step)
        begin = step + 1
        if begin == len(golden["token_ids"]):
            break
        prompt = golden["prompt_token_ids"] + golden["token_ids"][:begin]
        token_ids = continue_greedily(prompt, len(golden["token_ids"]) - begin)
    return accepted


def logits_difference(golden: Golden, logits: NDArray[np.float32]) -> float:
    """Give the largest difference between logits [T, V] and those that a golden holds."""
    return max(
        float(np.abs(logits[row["position"], row["ids"]] - np.array(row["values"])).max())
        for row in golden["logits"]
    )


def mean_nll(logits: NDArray[np.float32], token_ids: list[int]) -> float:
    """Give the mean of -log p(token | those before it) in nats, from logits [T, V]."""
    total = 0.0
    for begin in range(0, len(token_ids) - 1, ROWS_AT_ONCE):
        next_ids = token_ids[begin + 1 : begin + 1 + ROWS_AT_ONCE]
        rows = logits[begin : begin + len(next_ids)]
        top = rows.max(axis=1)
        log_sums = np.log(np.exp(rows - top[:, None]).sum(axis=1, dtype=np.float64))
        chosen = rows[np.arange(len(rows)), next_ids].astype(np.float64)
        total += float((log_sums + top - chosen).sum())
    return total / (len(token_ids) - 1)
