"""Images in `outrider chat`, with a tiny Llama 4 that sees and one that only reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tiny_llama4 import TinyLlama4, TinyVision, write_hf


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chat")
    write_hf(TinyLlama4(vision=TinyVision()), path / "sees")
    write_hf(TinyLlama4(), path / "reads")
    Image.new("RGB", (40, 20), "red").save(path / "red.png")
    Image.new("RGB", (40, 20), "blue").save(path / "blue.png")
    (path / "broken.png").write_bytes((path / "red.png").read_bytes()[:40])
    return path


def chat(folder: Path, model: str, *lines: str) -> tuple[list[str], str]:
    """Give the answers and what was said beside them."""
    command = [sys.executable, "-m", "outrider", "chat", str(folder / model)]
    options = ["--max-tokens", "8", "--sampling", "temperature=0", "--home", str(folder / "home")]
    result = subprocess.run(
        [*command, *options],
        input=("\n".join(lines) + "\n").encode(),
        capture_output=True,
        cwd=folder,
        check=True,
    )
    return result.stdout.decode("utf-8", "replace").split("\n"), result.stderr.decode()


def test_an_image_is_shown_with_the_next_message_only(folder: Path) -> None:
    plain, _ = chat(folder, "sees", "what?")
    red, said = chat(folder, "sees", "/image red.png", "what?")
    blue, _ = chat(folder, "sees", "/image blue.png", "what?")
    assert "the next message shows red.png (40 x 20 pixels)" in said
    assert len({str(plain), str(red), str(blue)}) == 3
    again, _ = chat(folder, "sees", "/image red.png", "/reset", "what?")
    assert again == plain


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("missing.png", "missing.png can't be read"),
        ("", "the image can't be read"),
        ("broken.png", "broken.png"),
    ],
)
def test_a_file_that_is_no_image_is_told_and_not_shown(folder: Path, name: str, text: str) -> None:
    plain, _ = chat(folder, "sees", "what?")
    answers, said = chat(folder, "sees", f"/image {name}", "what?")
    assert text in said
    assert answers == plain


def test_a_text_model_says_that_it_takes_no_image_and_goes_on(folder: Path) -> None:
    plain, _ = chat(folder, "reads", "what?")
    answers, said = chat(folder, "reads", "/image red.png", "see", "what?")
    assert "reads text only" in said
    assert answers == plain
