"""What `make bench` computes from measurements: shares, medians, verdicts, tables."""

from __future__ import annotations

import importlib
import json
from types import ModuleType
from typing import Any

import pytest

from outrider.engine.cost import StepCost

LIMITS = {
    "read_gb_per_s": 50.0,
    "int8_gmac_per_s": 1000.0,
    "bf16_gmac_per_s": 500.0,
    "f32_gmac_per_s": 250.0,
}


class FixedCost:
    """Every step reads 1 GB; a prompt's token takes 2 billion products."""

    def decode(self, num_seqs: int, context: float, hit: float | None) -> StepCost:
        self.asked = num_seqs, context, hit
        return StepCost(1e9, {"int8": num_seqs * 1e9})

    def prompt(self, num_tokens: int, hit: float | None) -> StepCost:
        return StepCost(1e9, {"int8": num_tokens * 2e9})


@pytest.fixture
def rounds() -> ModuleType:
    return importlib.import_module("rounds")


def make_row(kind: str, num_seqs: int = 1, **targets: Any) -> Any:
    rows = importlib.import_module("rows")
    work = rows.Work(kind, num_seqs, 64, 0 if kind == "prompt" else 9)
    return rows.Row("slice", f"{kind}, {num_seqs}", work, **{"ratio": 2.0, **targets})


def test_decoding_is_judged_by_the_bytes_it_must_read(rounds: ModuleType) -> None:
    cost = FixedCost()
    ours = {"tokens_per_s": 40.0, "experts": {"hit": 3.0}}
    measured = rounds.assess(make_row("decode"), ours, 20.0, LIMITS, cost)
    # 1 GB at 50 GB/s is 20 ms; the step took 25 ms.
    assert measured.share == pytest.approx(0.8)
    assert (measured.bound, measured.ratio) == ("reading", 2.0)
    assert cost.asked == (1, 64 + 5, 3.0)


def test_a_batch_counts_a_step_for_all_its_sequences(rounds: ModuleType) -> None:
    ours = {"tokens_per_s": 400.0}
    measured = rounds.assess(make_row("decode", 16), ours, 20.0, LIMITS, FixedCost())
    assert measured.share == pytest.approx(0.02 / (16 / 400))


def test_prompts_are_judged_by_their_products(rounds: ModuleType) -> None:
    ours = {"tokens_per_s": 250.0}
    measured = rounds.assess(make_row("prompt"), ours, 100.0, LIMITS, FixedCost())
    assert measured.share == pytest.approx(0.5)  # 64 tokens take 128 ms at least
    assert measured.bound == "products"


def result_of(row: Any, shares: list[float], ratios: list[float], read: float = 70.0) -> Any:
    rounds = importlib.import_module("rounds")
    limits = {**LIMITS, "read_gb_per_s": read}
    made = [
        rounds.Round(ours=100 * ratio, peer=100.0, share=share, bound="reading", limits=limits)
        for share, ratio in zip(shares, ratios, strict=True)
    ]
    return rounds.RowResult(row, made)


def test_the_median_round_decides() -> None:
    row = make_row("decode", share=0.9)
    assert result_of(row, [0.95, 0.91, 0.5], [1.0, 2.1, 2.2]).missed() == []
    missed = result_of(row, [0.95, 0.89, 0.5], [1.0, 1.9, 2.2]).missed()
    assert missed == ["ratio below 2", "share below 90%"]


def test_a_ratio_counts_in_full_only_while_the_machine_reads_fast() -> None:
    row = make_row("decode", ratio=1.4, ratio_from_gb_per_s=65.0)
    assert result_of(row, [0.9], [1.1], read=60.0).missed() == []
    assert result_of(row, [0.9], [1.1], read=65.0).missed() == ["ratio below 1.4"]
    assert result_of(row, [0.9], [0.9], read=60.0).missed() == ["ratio below 1"]


class Answering:
    """A side that answers with fixed speeds and notes the order in which it is asked."""

    def __init__(self, name: str, speed: float, log: list[str]) -> None:
        self.name, self.speed, self.log = name, speed, log

    def ask(self, message: dict[str, Any]) -> dict[str, float]:
        self.log.append(f"{self.name} {message['seed']}")
        return {"tokens_per_s": self.speed}


class FixedLimits:
    def __init__(self, log: list[str]) -> None:
        self.log = log

    def measure(self) -> dict[str, float]:
        self.log.append("limits")
        return LIMITS


def test_rounds_alternate_who_is_first_and_measure_the_limits_around_ours(
    rounds: ModuleType,
) -> None:
    log: list[str] = []
    ours, peer = Answering("ours", 40.0, log), Answering("peer", 20.0, log)
    bench = rounds.Bench(ours, peer, FixedCost(), FixedLimits(log))
    (*_, last) = bench.run([make_row("prompt")], 1)
    assert log == [
        *("limits", "ours 0", "limits", "peer 0"),  # to warm up
        *("peer 1", "limits", "ours 1", "limits"),
    ]
    (result,) = last.values()
    assert [r.ratio for r in result.rounds] == [2.0]


def report_of(*results: Any) -> Any:
    module = importlib.import_module("bench_report")
    spread = {"num_experts": 16, "hit": 10.2, "busiest": 0.2}
    return module.Report(
        command="make bench",
        machine={
            "cpu": "Some CPU",
            "cores": 2,
            "memory_gb": 24.0,
            "system": "Linux",
            "threads": 2,
            "limits": "by reading",
        },
        versions={"outrider": "1", "commit": "abc", "compiler": "c++ 12", "python": "3.11"},
        sides={
            "ours": {"name": "Outrider 1", "isa": "avx512"},
            "peer": {"name": "llama.cpp 2", "settings": "its own", "features": "AVX2 = 1"},
        },
        num_rounds=3,
        results=results,
        spreads=({"rows": 16, "ours": spread, "peer": spread},),
    )


def test_the_table_shows_targets_spreads_and_verdicts() -> None:
    module = importlib.import_module("bench_report")
    results = [
        result_of(make_row("decode", share=0.9), [0.8, 0.95, 0.97], [1.9, 2.1, 2.4]),
        result_of(make_row("prompt"), [0.4, 0.5, 0.6], [1.7, 1.8, 1.9]),
    ]
    lines = module.as_text(report_of(*results)).splitlines()
    (decode,) = (line for line in lines if line.startswith("decode, 1"))
    (prompt,) = (line for line in lines if line.startswith("prompt, 1"))
    figures = ["100", "2.10", "1.90-2.40", "2.0", "95%", "80%-97%", "90%"]
    assert decode.split()[2:] == ["210", *figures, "reading", "met"]
    assert prompt.endswith("ratio below 2")
    assert "reading, GB/s: 70-70" in lines
    assert "experts met by 16 rows: 10.2 of 16 hit, busiest 20%" in lines[-1]


def test_markdown_has_a_row_per_result_and_names_its_command() -> None:
    module = importlib.import_module("bench_report")
    text = module.as_markdown(report_of(result_of(make_row("decode"), [0.5], [2.5])))
    assert "| Llama 4 Scout: decode, 1 | 250 | 100 | 2.5 (2.5-2.5) | 2.0 | 50% of reading |" in text
    assert "Limits beside them: reading, GB/s: 70-70;" in text
    assert "`make bench` on Some CPU, 2 cores, 24.0 GB: Outrider 1 (abc, avx512)" in text


def test_json_holds_every_round() -> None:
    module = importlib.import_module("bench_report")
    report = report_of(result_of(make_row("decode"), [0.5, 0.6], [1.5, 2.5]))
    document = json.loads(json.dumps(module.as_json(report)))
    (row,) = document["rows"]
    assert row["ratio"] == {"median": 2.0, "min": 1.5, "max": 2.5}
    assert [r["share"] for r in row["rounds"]] == [0.5, 0.6]
    assert (row["ratio_target"], row["share_target"], row["missed"]) == (2.0, None, [])


def test_the_picture_shows_the_stricter_target() -> None:
    module = importlib.import_module("bench_report")
    row = make_row("decode", ratio=3.0, share=0.9)
    svg = module.as_picture(report_of(result_of(row, [0.5], [2.0])))
    assert "250" not in svg and "200 tok/s, 2.0×" in svg
    # Three times the peer would be 75 % of the limit, less than 90 %.
    picture = importlib.import_module("picture")
    track = picture.WIDTH - picture.LEFT - picture.RIGHT
    assert f"x1='{picture.LEFT + 0.9 * track:.1f}'" in svg
