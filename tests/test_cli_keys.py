"""The commands that manage keys, run as an operator does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from outrider.__main__ import run
from outrider.metering.key_store import all_keys
from outrider.metering.keys import id_of
from outrider.storage.folder import DataFolder
from storage.records import run as run_works


def outrider_keys(folder: Path, *arguments: str) -> int:
    return run(["keys", *arguments, "--data-dir", str(folder)])


def test_a_key_is_created_shown_once_listed_and_revoked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outrider_keys(tmp_path, "create", "--management", "admin") == 0
    output = capsys.readouterr()
    secret = output.out.strip()
    assert re.fullmatch(r"sk-or-v1-[0-9a-f]{64}", secret)
    assert secret not in output.err
    options = ["--limit=2.5", "--reset=monthly", "--allow=a", "--allow=b", "--expires=2099-01-31"]
    options += ["--requests-per-minute=3", "--tokens-per-minute=4"]
    assert outrider_keys(tmp_path, "create", "ci", *options) == 0
    capsys.readouterr()
    assert outrider_keys(tmp_path, "list") == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in listed] == ["name", "admin", "ci"]
    assert listed[1].split()[0] == id_of(secret)[:12]
    assert listed[2].endswith("good   2099-01-31  $2.50 monthly  a, b")
    assert secret not in "".join(listed)
    assert outrider_keys(tmp_path, "revoke", "ci") == 0
    assert outrider_keys(tmp_path, "revoke", id_of(secret)[:12]) == 0
    assert outrider_keys(tmp_path, "list") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    ((admin, ci),) = run_works(tmp_path / "outrider.db", all_keys)
    assert (admin.kind, ci.kind) == ("management", "inference")
    assert (ci.limit_microusd, ci.requests_per_minute, ci.tokens_per_minute) == (2_500_000, 3, 4)
    assert admin.deleted_s is not None


def test_keys_are_managed_beside_a_server_that_has_the_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = DataFolder(tmp_path)
    assert outrider_keys(tmp_path, "create", "early") == 2  # there is no database yet
    assert "in use by another Outrider" in capsys.readouterr().err
    folder.close()
    assert outrider_keys(tmp_path, "create", "one") == 0
    folder = DataFolder(tmp_path)
    assert outrider_keys(tmp_path, "create", "two") == 0
    folder.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["create", "x", "--reset", "daily"], "limit_reset needs a limit"),
        (["create", "x", "--reset", "hourly", "--limit", "1"], "--reset takes daily, weekly"),
        (["create", "x", "--limit", "nan"], "--limit is nan"),
        (["create", "x", "--expires", "soon"], "--expires is 'soon'"),
        (["create", ""], "name needs 1 to 200"),
        (["revoke", "nobody"], "`outrider keys list` lists them"),
        (["revoke", ""], "`outrider keys list` lists them"),
        (["revoke", "twin"], "name of several keys; give a hash: "),
    ],
)
def test_what_can_not_be_done_is_one_line(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert outrider_keys(tmp_path, "create", "twin") == 0
    capsys.readouterr()
    assert outrider_keys(tmp_path, *arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert words in output.err
    assert len(output.err.splitlines()) == 1
