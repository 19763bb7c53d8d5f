"""What the Makefile says on a machine that lacks something: one line with the remedy."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("sh", "make", "mkdir", "rm", "touch", "tail", "cat")

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make isn't installed")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the Makefile alone, and a PATH without Python and compiler."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    return tmp_path


def add_program(checkout: Path, name: str, script: str) -> None:
    program = checkout / "bin" / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def make(checkout: Path, *arguments: str) -> list[str]:
    """Run a make that must fail; gives what it says, without make's own last line."""
    result = subprocess.run(
        ["make", *arguments],
        cwd=checkout,
        env={"PATH": str(checkout / "bin"), "HOME": str(checkout)},
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0
    return [line for line in result.stderr.splitlines() if not line.startswith("make: ***")]


def test_a_missing_python_is_named_with_its_remedy(checkout: Path) -> None:
    assert make(checkout, "serve") == [
        "no python3 found: install Python 3.11 or newer, on Debian: apt-get install python3"
    ]


def test_an_old_python_is_refused(checkout: Path) -> None:
    add_program(checkout, "python3", "exit 1")
    (line,) = make(checkout, "test")
    assert line.startswith("python3 is too old: Outrider needs Python 3.11 or newer")


def test_a_missing_compiler_is_named_with_its_remedy(checkout: Path) -> None:
    assert make(checkout, "setup", f"PYTHON={sys.executable}") == [
        "no C++ compiler found: install one, on Debian: apt-get install g++"
    ]


@pytest.mark.parametrize(
    ("missing", "package"),
    [("sysconfig", "python3-dev"), ("import venv", "python3-venv"), ("pip", "python3-venv")],
    ids=["headers", "venv", "pip"],
)
def test_a_missing_part_of_python_is_named_with_its_package(
    missing: str, package: str, checkout: Path
) -> None:
    add_program(checkout, "c++", "exit 0")
    # A Python that fails at one question and answers all others.
    add_program(checkout, "python3", f'case "$*" in *"{missing}"*) exit 1;; esac; exit 0')
    (line,) = make(checkout, "serve")
    assert line.endswith(f"on Debian: apt-get install {package}")


def test_a_failing_step_shows_the_end_of_its_log_and_is_done_again(checkout: Path) -> None:
    add_program(checkout, "c++", "exit 0")
    failing = 'case "$*" in *"-m venv"*) echo "no room left"; exit 1;; esac; exit 0'
    add_program(checkout, "python3", failing)
    for _ in range(2):
        assert make(checkout, "setup") == ["making .venv failed; the log is in .venv/install.log"]
    assert "no room left" in (checkout / ".venv" / "install.log").read_text()


def test_a_missing_browser_is_named_with_its_remedy(checkout: Path) -> None:
    add_program(checkout, "node", "exit 0")
    add_program(checkout, "npm", "exit 0")
    assert make(checkout, "browser", "CHROMIUM=/nowhere") == [
        "no Chromium found: on Debian: apt-get install chromium; CHROMIUM= names another"
    ]


def test_a_node_that_is_too_old_to_drive_the_page_is_refused(checkout: Path) -> None:
    add_program(checkout, "node", "exit 1")
    assert make(checkout, "browser") == [
        "no Node 20 or newer with npm found: install it to drive the page"
    ]
