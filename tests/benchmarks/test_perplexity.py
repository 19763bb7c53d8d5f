"""What `make perplexity` computes: windows, likelihoods, and how two of them compare."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray


class FixedModel:
    """Tokens are the text's bytes; logits favour token `7` by log(3)."""

    def tokenize(self, text: str) -> list[int]:
        return list(text.encode())

    def logits(self, token_ids: list[int]) -> NDArray[np.float32]:
        logits = np.zeros((len(token_ids), 10), np.float32)
        logits[:, 7] = np.log(3)
        return logits


@pytest.fixture
def perplexity() -> ModuleType:
    return importlib.import_module("perplexity")


def test_windows_are_whole_and_spread_over_the_files(
    perplexity: ModuleType, tmp_path: Path
) -> None:
    files = [tmp_path / "a.md", tmp_path / "b.md"]
    files[0].write_text("aaaabbbbcc")
    files[1].write_text("ccccddddeeee")
    windows = perplexity.cut_windows(FixedModel(), files, 4, 3)
    assert [bytes(window).decode() for window in windows] == ["aaaa", "bbbb", "dddd"]
    assert len(perplexity.cut_windows(FixedModel(), files, 4, 99)) == 5
    with pytest.raises(SystemExit, match="no window of 13 tokens"):
        perplexity.cut_windows(FixedModel(), files, 13, 1)


def test_a_window_counts_all_tokens_but_the_first(perplexity: ModuleType) -> None:
    assert perplexity.mean_nll(FixedModel(), [1, 7, 7]) == pytest.approx(np.log(4))
    assert perplexity.mean_nll(FixedModel(), [7, 1]) == pytest.approx(np.log(12))


def test_the_difference_is_taken_window_by_window(perplexity: ModuleType) -> None:
    higher, error = perplexity.compare([1.0, 3.0], [1.002, 3.004])
    assert higher == pytest.approx(0.003, rel=0.01)
    assert error == pytest.approx(0.001)
