"""`outrider inspect` on the releases' real configs, against numbers computed by hand elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llama4_release_configs import GUARD, MAVERICK, SCOUT, rope_scaling
from outrider.__main__ import run
from tiny_llama4 import TinyLlama4, TinyVision, write_hf

GIB = 1 << 30


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home; no test of this file sees the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OUTRIDER_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "300")
    return tmp_path / "home"


def release(folder: Path, config: dict[str, Any]) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def report(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    assert run(["inspect", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def text(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run(["inspect", *arguments]) == 0
    return capsys.readouterr().out


def test_scouts_parameters_are_those_of_the_model_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = report([release(tmp_path / "scout", SCOUT)], capsys)
    assert found["parameter_counts"] == {
        "total": 108_641_793_536,
        "text": 107_769_861_120,
        "vision": 850_960_896 + 20_971_520,
        "routed_experts": 96_636_764_160,
        "active": 16_138_408_960,
    }
    assert not found["has_weights"]
    assert found["warnings"] == []


def test_mavericks_parameters_are_those_of_the_model_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = report([release(tmp_path / "maverick", MAVERICK)], capsys)["parameter_counts"]
    assert (counts["total"], counts["active"]) == (401_583_781_376, 16_150_205_440)


def test_bytes_by_weights_follow_from_the_parameters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = report([release(tmp_path / "scout", SCOUT)], capsys)
    sizes = {name: size / 1e9 for name, size in found["weights_bytes"].items()}
    # Text at 16, 8.5 and 5 bits, embeddings and output at 8.5 at least; vision in bf16.
    small = 2 * 1_034_485_760
    text_only, vision = 107_769_861_120, 871_932_416 * 2 / 1e9
    assert sizes["f32"] == pytest.approx(108_641_793_536 * 4 / 1e9, rel=1e-3)
    assert sizes["bf16"] == pytest.approx(108_641_793_536 * 2 / 1e9, rel=1e-3)
    assert sizes["q8"] == pytest.approx(text_only * 8.5 / 8e9 + vision, rel=1e-3)
    q4 = (text_only - small) * 5 / 8e9 + small * 8.5 / 8e9 + vision
    assert sizes["q4"] == pytest.approx(q4, rel=1e-3)
    assert sizes["auto"] <= sizes["bf16"]


def test_the_plan_shows_formats_and_bytes_by_kind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = release(tmp_path / "scout", SCOUT)
    plan = report([folder, "--weights", "q8"], capsys)["plan"]
    kinds = {(row["kind"], row["format"]): row for row in plan["kinds"]}
    experts = kinds["routed experts", "q8"]
    assert (experts["tensors"], experts["parameters"]) == (144, 96_636_764_160)
    assert experts["bytes"] == 96_636_764_160 * 17 // 16
    assert kinds["attention", "q8"]["parameters"] == 3_019_898_880
    assert kinds["shared expert", "q8"]["parameters"] == 6_039_797_760
    assert kinds["router", "f32"]["parameters"] == 48 * 81_920
    assert kinds["vision", "bf16"]["tensors"] == 6 * 34 + 4
    assert (plan["weights"], plan["step"]) == ("q8", "q8")


@pytest.mark.parametrize(
    ("kv", "share"), [("bf16", 1.0), ("int8", (128 + 2) / 256)], ids=["bf16", "int8"]
)
def test_the_kv_table_is_that_of_evicted_chunks(
    kv: str, share: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = release(tmp_path / "scout", SCOUT)
    rows = report([folder, "--kv", kv], capsys)["kv_table"]
    expected = {  # GiB: with eviction, naive
        32 << 10: (2.6, 6.0), 128 << 10: (7.1, 24), 256 << 10: (13.1, 48), 1 << 20: (49.1, 192),
        10 << 20: (481, 1920),
    }  # fmt: skip
    assert [row["tokens"] for row in rows] == list(expected)
    for row in rows:
        kept, naive = expected[row["tokens"]]
        assert row["kv"] == kv
        assert row["bytes"] / GIB == pytest.approx(kept * share, rel=0.02)
        assert row["naive_bytes"] / GIB == pytest.approx(naive * share, rel=0.002)


def test_people_read_the_same_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = text([release(tmp_path / "scout", SCOUT)], capsys)
    for part in (
        "scout (108.64 B parameters)",
        "107.77 B text · 0.87 B vision · 16.14 B active per token",
        "no weights; sizes assume bf16",
        "16 in 48 layers, 1 per token and a shared one, 8,192 wide",
        "36 layers in chunks of 8,192, 12 layers over everything, 12 without RoPE",
        "tiles of 336 pixels, patches of 14, 144 tokens each · up to 16 tiles and a global one",
        "bf16 202.4 GiB · q8 108.3 GiB",
        "131,072 tokens",
        "7.1 GiB",
        "24.0 GiB",
    ):
        assert part in shown, part
    assert "warning" not in shown


def test_dense_layers_and_missing_chunks_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = text([release(tmp_path / "maverick", MAVERICK)], capsys)
    assert "128 in 24 layers" in shown
    assert "24 layers, 16,384 wide" in shown
    shown = text([release(tmp_path / "guard", GUARD)], capsys)
    assert "12.00 B parameters" in shown
    assert "48 layers over everything, 12 without RoPE" in shown
    assert "chunks" not in shown


def test_obsolete_rope_constants_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = SCOUT["text_config"] | {"rope_scaling": rope_scaling(8.0, 4.0)}
    folder = release(tmp_path / "scout", SCOUT | {"text_config": old})
    (warning,) = report([folder], capsys)["warnings"]
    assert "first upload (factor 8, high_freq_factor 4)" in warning
    assert f"warning: {warning}" in text([folder], capsys)


def test_what_does_not_fit_is_said_with_the_choices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = release(tmp_path / "scout", SCOUT)
    monkeypatch.setattr("outrider.machine.total_memory_bytes", lambda: 128 << 30)
    memory = report([folder, "--weights", "bf16"], capsys)["memory"]
    assert "the weights take 217.3 GB (bf16) but this machine has 137.5 GB" in memory["verdict"]
    assert "--weights q8 (116.3 GB) or --weights q4 (70.1 GB)" in memory["verdict"]


def test_a_folder_with_weights_shows_how_they_are_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_hf(TinyLlama4(vision=TinyVision()), tmp_path / "m", "BF16")
    found = report([str(folder), "--tensors"], capsys)
    assert found["has_weights"]
    assert found["chat_format"] == "llama4"
    assert found["source_formats"].keys() == {"bf16", "vector"}
    rows = {row["name"]: row for row in found["tensors"]}
    assert rows["layers.0.experts.up_proj"]["shape"] == [4, 48, 64]
    assert rows["layers.0.router"]["packed"] == "f32"
    assert [row["tokens"] for row in found["kv_table"]] == [1024]
    assert not list(folder.glob("*.packed"))
    assert "4 x 48 x 64" in text([str(folder), "--tensors"], capsys)
