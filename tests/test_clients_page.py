"""docs/clients.md says of each client what its test file tests."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CLIENTS = ROOT / "tests" / "clients"
# A word of a test's name that shows what it is about.
WORDS = {
    "models": r"models",
    "chat": r"chat",
    "stream": r"stream",
    "tools": r"tool",
    "schema": r"schema",
    "image": r"image",
    "embeddings": r"vectors",
    "batch": r"batch",
    "error": r"errors",
}
ROW = re.compile(r"^\| \[`([^`]+)`\]\(\.\./tests/clients/([^)]+)\) ([\d.]+)([^|]*)\|[^|]*\|(.*)\|$")


def rows() -> list[tuple[str, ...]]:
    lines = (ROOT / "docs" / "clients.md").read_text("utf-8").splitlines()
    return [match.groups() for line in lines if (match := ROW.match(line))]


def test_every_file_of_tests_has_a_row() -> None:
    files = {*CLIENTS.glob("test_*.py"), *CLIENTS.glob("*.test.mjs")}
    names = {path.name for path in files} - {
        "test_node.py",
        "test_openapi.py",
        "test_openrouter_keys.py",
        "test_samples.py",
    }
    assert {row[1] for row in rows()} == names


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[1])
def test_a_row_names_what_is_tested(row: tuple[str, ...]) -> None:
    name, file, version, _, cells = row
    tests = re.findall(r"^(?:def test_|test\(\")(.*)$", (CLIENTS / file).read_text(), re.MULTILINE)
    shown = {
        column: cell.strip() == "yes" for column, cell in zip(WORDS, cells.split("|"), strict=True)
    }
    assert shown == {
        column: any(re.search(word, test) for test in tests) for column, word in WORDS.items()
    }
    if file.endswith(".py"):
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert f"{name}=={version}" in extras["optional-dependencies"]["clients"]
    else:
        packages = json.loads((CLIENTS / "package.json").read_text())["dependencies"]
        assert packages[name] == version


def test_the_lock_file_names_no_registry() -> None:
    assert "resolved" not in (CLIENTS / "package-lock.json").read_text()
