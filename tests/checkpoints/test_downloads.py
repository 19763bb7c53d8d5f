"""Child processes that download: their progress, their failures and their end."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from outrider.checkpoints.downloads import folder_nbytes, list_repository, run_download
from outrider.errors import StoreError


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_growing_files_are_reported(tmp_path: Path) -> None:
    sizes: list[int] = []
    code = (
        "import time; file = open('part', 'wb'); file.write(b'x' * 5000); file.flush(); "
        "time.sleep(0.6)"
    )
    command = [sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r}); {code}"]
    run_download(command, tmp_path, "problem", sizes.append)
    assert max(sizes) == folder_nbytes(tmp_path) == 5000


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("print('ERROR: first'); print('ERROR: why'); print('notice'); exit(1)", "problem: why;"),
        ("print('  last line \\n\\n'); exit(1)", "problem: last line; check the network"),
        ("exit(1)", "problem: it said nothing"),
        ("print('x' * 9999); exit(1)", "problem: x{300};"),
        ("raise ImportError('No module named pip')", "no pip; run: python -m ensurepip"),
    ],
)
def test_failure_is_one_line(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        run_download(python(code), tmp_path, "problem", lambda done: None)
    assert "\n" not in caught.value.message


def test_program_that_does_not_exist_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"problem: No such file"):
        run_download(["/no/such/program"], tmp_path, "problem", lambda done: None)


def test_interrupt_ends_the_child(tmp_path: Path) -> None:
    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_download(python("import time; time.sleep(60)"), tmp_path, "problem", interrupt)
    assert time.monotonic() - begin < 30


def test_files_of_a_repository_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "modules" / "huggingface_hub"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "def list_repo_files(repo_id, revision):\n"
        "    print('a notice', end='')\n"
        "    return [repo_id, revision]\n"
        "def snapshot_download(**request): raise AssertionError\n"
    )
    (package / "utils.py").write_text("def disable_progress_bars(): pass\n")
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    assert list_repository("org/name", "v1", tmp_path) == ["org/name", "v1"]


def test_a_repository_that_cannot_be_listed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(StoreError, match=r"the files of org/name couldn't be listed") as caught:
        list_repository("org/name", None, tmp_path)
    assert "\n" not in caught.value.message
