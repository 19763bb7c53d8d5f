"""The arithmetic of the load client: arrivals, percentiles, throughput and what a round says."""

from __future__ import annotations

import importlib
import random
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def load() -> ModuleType:
    return importlib.import_module("load")


@pytest.fixture
def rows() -> ModuleType:
    return importlib.import_module("serve_rows")


def answer(due_s: float, token_s: list[float], **fields: Any) -> Any:
    kind = importlib.import_module("http_stream").Answer
    end_s = token_s[-1] if token_s else due_s
    made = {"sent_s": due_s, "end_s": end_s, "output_tokens": len(token_s), **fields}
    return kind(due_s, token_s=token_s, **made)


@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40),
    percent=st.floats(0, 100),
)
def test_percentiles_are_those_of_numpy(values: list[float], percent: float) -> None:
    load = importlib.import_module("load")
    assert load.percentile(values, percent) == pytest.approx(
        np.percentile(values, percent), rel=1e-9, abs=1e-6
    )


def test_arrivals_begin_at_once_and_come_at_their_rate(load: ModuleType) -> None:
    times = load.poisson_arrivals(5.0, 20_000, random.Random(1))
    gaps = np.diff(times)
    assert times[0] == 0
    assert len(times) == 20_000
    assert np.mean(gaps) == pytest.approx(1 / 5, rel=0.03)
    # Of a Poisson process: gaps spread as much as they are long, unlike those of a clock.
    assert np.std(gaps) == pytest.approx(1 / 5, rel=0.05)
    assert times == load.poisson_arrivals(5.0, 20_000, random.Random(1))


def test_throughput_counts_from_the_first_request_to_the_last_answer(load: ModuleType) -> None:
    answers = [answer(1.0, [2.0, 3.0]), answer(2.0, [4.0, 5.0, 6.0])]
    assert load.tokens_per_s(answers) == 5 / 5


def test_decoding_counts_only_while_all_answers_run(load: ModuleType) -> None:
    answers = [answer(0.0, [1.0, 2.0, 3.0, 4.0]), answer(0.0, [2.5, 3.5, 4.5])]
    assert load.decode_tokens_per_s(answers) == 3 / 1.5  # between 2.5 and 4.0
    one_after_the_other = [answer(0.0, [1.0, 2.0]), answer(0.0, [3.0, 4.0])]
    assert load.decode_tokens_per_s(one_after_the_other) == 0


def test_pieces_of_several_tokens_count_as_tokens(load: ModuleType) -> None:
    answers = [answer(0.0, [1.0, 2.0, 3.0], output_tokens=6), answer(0.0, [1.0, 2.0, 3.0])]
    assert answers[0].tokens_per_piece == 2
    assert load.tokens_per_piece(answers) == 1.5
    assert load.decode_tokens_per_s(answers) == (2 * 2 + 2) / 2
    assert load.summarise(answers)["tokens_per_piece"] == 1.5
    guessed = answer(0.0, [0.1, 0.2], output_tokens=11)  # a gap of 100 ms, of ten tokens
    assert guessed.mean_itl_s == pytest.approx(0.01)
    assert load.summarise([guessed])["good_requests_per_s"] == pytest.approx(5)


def test_time_to_first_token_counts_from_when_a_request_was_due(load: ModuleType) -> None:
    figures = load.summarise([answer(1.0, [3.0, 3.5], sent_s=2.0)])
    assert figures["ttft_p50_ms"] == 2000
    assert figures["itl_p50_ms"] == 500
    assert figures["client_late_max_ms"] == 1000


def test_a_failed_answer_is_an_error_and_nothing_else(load: ModuleType) -> None:
    good = answer(0.0, [0.1, 0.12])
    figures = load.summarise([good, answer(0.0, [], error="503")])
    assert (figures["requests"], figures["errors"]) == (2, 1)
    assert figures["ttft_max_ms"] == pytest.approx(100)
    assert load.summarise([answer(0.0, [], error="503")]) == {"requests": 1, "errors": 1}
    with pytest.raises(SystemExit, match="503"):
        load.require([good, answer(0.0, [], error="503")])


def test_only_answers_within_both_limits_are_good(load: ModuleType) -> None:
    fast, late, slow = [0.4, 0.42], [0.6, 0.62], [0.4, 0.5]
    figures = load.summarise([answer(0.0, token_s) for token_s in (fast, late, slow)])
    assert figures["good_requests_per_s"] == pytest.approx(1 / 0.62)
    assert figures["requests_per_s"] == pytest.approx(3 / 0.62)


def test_rounds_are_combined_by_median_and_extremes(load: ModuleType) -> None:
    combined = load.combine([{"x": 3.0}, {"x": 1.0, "y": 7.0}, {"x": 10.0}])
    assert combined == {
        "x": {"median": 3.0, "min": 1.0, "max": 10.0},
        "y": {"median": 7.0, "min": 7.0, "max": 7.0},
    }


def test_gaps_that_touch_a_span_count_whole(rows: ModuleType) -> None:
    running = answer(0.0, [1.0, 2.0, 5.0, 6.0, 8.0])
    assert rows.gaps_between(running, 2.5, 5.5) == [3.0, 1.0]
    assert rows.gaps_between(running, 0.0, 1.5) == [1.0]


def test_server_and_engine_take_turns_and_shares_are_medians_of_pairs(
    rows: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    firsts: list[bool] = []

    def turn(bench: object, rng: random.Random, is_served_first: bool) -> dict[str, float]:
        firsts.append(is_served_first)
        return {"share": [0.9, 0.5, 0.94, 0.92][len(firsts) - 1]}

    monkeypatch.setattr(rows, "clients_turn", turn)
    assert rows.streaming_clients(None, random.Random(1))["share"] == pytest.approx(0.91)
    assert firsts in ([True, False, True, False], [False, True, False, True])


def test_a_maximum_is_judged_by_the_worst_round_and_the_rest_by_the_median() -> None:
    report = importlib.import_module("serve_report")
    figure = {"median": 90.0, "min": 80.0, "max": 120.0}
    assert report.Target("row", "p99", 100).is_met(figure)
    assert not report.Target("row", "max", 100, is_worst=True).is_met(figure)
    assert report.Target("row", "share", 85, is_least=True).is_met(figure)
    assert not report.Target("row", "share", 95, is_least=True).is_met(figure)
