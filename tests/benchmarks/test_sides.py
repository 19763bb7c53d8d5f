"""Two processes that measure in turn, the tokens they get, and how rows spread over experts."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from outrider.cli_bench_rounds import time_decoding
from outrider.config import EngineConfig
from outrider.engine.loader import load_engine
from tiny_llama4 import TinyLlama4, write_hf

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PROGRAM = f"""
import sys
sys.path.insert(0, {str(BENCHMARKS)!r})
from sides import answer_all

def answer(message):
    if message.get("fails"):
        raise SystemExit("no such model")
    print("libraries may print")
    return {{"doubled": 2 * message["value"]}}

answer_all(answer)
"""
WORK = {"num_seqs": 2, "prompt_tokens": 3, "seed": 7}


@pytest.fixture
def sides() -> ModuleType:
    return importlib.import_module("sides")


@pytest.fixture
def spread() -> ModuleType:
    return importlib.import_module("expert_spread")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "doubling.py"
    path.write_text(PROGRAM)
    return path


def test_a_side_answers_from_a_process_of_its_own(sides: ModuleType, program: Path) -> None:
    with sides.Side(program, {"value": 1}) as side:
        assert side.about == {"doubled": 2}
        assert side.ask({"value": 21}) == {"doubled": 42}


def test_a_side_that_stops_is_named_with_what_it_was_asked(
    sides: ModuleType, program: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with (
        sides.Side(program, {"value": 1}) as side,
        pytest.raises(SystemExit, match=r"doubling stopped at \{'fails': True\}"),
    ):
        side.ask({"fails": True})
    assert "no such model" in capfd.readouterr().err


def test_both_sides_get_the_same_tokens_from_a_seed(sides: ModuleType) -> None:
    prompts = sides.random_prompts(WORK, 1000)
    assert [len(prompt) for prompt in prompts] == [3, 3]
    assert prompts == sides.random_prompts(WORK, 1000)
    assert prompts != sides.random_prompts({**WORK, "seed": 8}, 1000)


def test_a_spread_counts_experts_hit_and_the_share_of_the_busiest(spread: ModuleType) -> None:
    described = spread.describe([[3, 1, 0, 0], [2, 1, 1, 0]])
    assert described == {"num_experts": 4, "hit": 2.5, "busiest": (0.75 + 0.5) / 2}


def test_steps_of_a_prompt_are_added_up_per_layer(spread: ModuleType) -> None:
    calls = [[1, 0], [0, 1], [2, 2], [3, 0]]  # two steps of two layers
    assert spread.sum_steps(calls, 2) == [[3, 2], [3, 1]]


def test_what_the_router_decides_is_observed(spread: ModuleType, tmp_path: Path) -> None:
    model = TinyLlama4()
    settings = EngineConfig(model=str(write_hf(model, tmp_path / "m")), home=str(tmp_path))
    loaded = load_engine(settings)
    time_decoding(loaded, [[1, 2, 3, 4, 5]], 3)  # records the step of one token
    with spread.RoutingTap() as tap:
        time_decoding(loaded, [[6, 2, 3, 4, 5]], 3)
    layers = model.num_layers
    assert [sum(counts) for counts in tap.calls] == [5] * layers + [1] * layers * 2
    assert {len(counts) for counts in tap.calls} == {model.num_experts}
    before = tap.calls
    time_decoding(loaded, [[7, 2, 3]], 2)
    assert tap.calls is before
