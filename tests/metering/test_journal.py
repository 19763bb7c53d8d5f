"""The journal: what a killed process leaves, what fits into a slot, and a disk that is full."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.books import opened
from outrider.metering import journal as module
from outrider.metering.journal import CLOSED, FREE, OPEN, Journal
from outrider.metering.records import MAX_ATTEMPTS, Closed, Counts
from outrider.routing_types import Attempt, Price

COUNTS = Counts(prompt_tokens=10, completion_tokens=3, cached_tokens=2, cost_microusd=7)
ENDED = Closed(status=200, duration_ms=5, provider="p", price=Price(prompt=1), finish_reason="stop")


def test_a_slot_gives_back_what_was_put_into_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    slot = journal.take(opened(session="s", num_images=3, app_categories=("game",)))
    slot.count(COUNTS)
    slot.close(ENDED)
    row = slot.read()
    assert (row.opened, row.counts, row.closed) == (
        opened(session="s", num_images=3, app_categories=("game",)),
        COUNTS,
        ENDED,
    )
    assert slot.state == CLOSED
    journal.give_back(slot)
    assert slot.state == FREE
    assert journal.take(opened()) is slot


def test_what_a_killed_process_left_is_found_with_its_last_counts(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from metering.test_journal import COUNTS, ENDED, opened
from outrider.metering.journal import Journal
journal = Journal(Path(sys.argv[1]))
running, ended, begun, freed = (journal.take(opened(f"gen-{n}")) for n in range(4))
running.count(COUNTS)
running.note(ENDED)
running.count_completion(9)
ended.count(COUNTS)
ended.close(ENDED)
journal.give_back(freed)
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "journal"
    tests = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{tests}"}
    done = subprocess.run([sys.executable, "-c", code, str(path)], env=environment)
    assert done.returncode == -signal.SIGKILL
    journal = Journal(path)
    rows = {slot.read().opened.id: slot.read() for slot in journal.unfinished()}
    assert sorted(rows) == ["gen-0", "gen-1", "gen-2"]
    assert rows["gen-0"].counts.completion_tokens == 9
    assert rows["gen-0"].counts.cost_microusd == 0  # it failed, so it costs nothing
    assert rows["gen-0"].closed.provider == "p"
    assert rows["gen-1"].counts == COUNTS
    assert (rows["gen-2"].closed.status, rows["gen-2"].closed.error_code) == (500, "server_killed")
    assert journal.unfinished() == []


def test_more_requests_than_slots_make_the_file_grow_and_it_is_reused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    slots = [journal.take(opened(f"gen-{n}")) for n in range(module.SLOTS_PER_SEGMENT + 1)]
    assert path.stat().st_size == module.SLOT_BYTES + 2 * module.SEGMENT_BYTES
    for slot in slots:
        journal.give_back(slot)
    journal.close()
    again = Journal(path)
    assert again.unfinished() == []
    assert again.take(opened()).state == OPEN
    assert path.stat().st_size == module.SLOT_BYTES + 2 * module.SEGMENT_BYTES


def test_a_full_disk_gives_no_slot_and_no_signal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path / "journal")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert journal.take(opened()) is None
    assert journal.take(opened()) is None
    assert len(caplog.records) == 1
    monkeypatch.undo()
    assert journal.take(opened()) is not None


def test_a_record_that_was_only_half_written_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    slot = Journal(path).take(opened())
    slot.count(COUNTS)
    with path.open("r+b") as file:
        data = bytearray(path.read_bytes())
        begin = data.index(b"openai-chat")
        file.seek(begin)
        file.write(b"x")
    (left,) = Journal(path).unfinished()
    assert left.read() is None


def test_what_a_version_without_categories_left_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    begun = opened(app_url="https://a", is_streamed=False)
    *older, categories = msgspec.to_builtins(begun)
    assert categories == ()
    slot = Journal(path).take(begun)
    slot._put(module._OPENED, msgspec.msgpack.encode(older))
    (left,) = Journal(path).unfinished()
    assert left.read().opened == begun


def test_a_file_that_is_no_journal_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"something else" * 1000)
    assert Journal(path).unfinished() == []
    assert path.stat().st_mode & 0o777


text = st.text(max_size=200)


@given(
    names=st.tuples(text, text, text, text),
    attempts=st.lists(
        st.builds(Attempt, provider=text, model=text, status=st.integers(0, 999), upstream_id=text),
        max_size=MAX_ATTEMPTS,
    ),
)
def test_texts_of_any_length_leave_a_record_that_can_be_read(
    tmp_path_factory: pytest.TempPathFactory,
    names: tuple[str, str, str, str],
    attempts: list[Attempt],
) -> None:
    journal = Journal(tmp_path_factory.getbasetemp() / "any-journal")
    for slot in journal.unfinished():
        journal.give_back(slot)
    agent, title, session, model = names
    begun = opened(user_agent=agent * 9, app_title=title, session=session, model=model)
    slot = journal.take(begun)
    slot.close(Closed(status=200, duration_ms=1, attempts=tuple(attempts), upstream_id=agent * 9))
    row = slot.read()
    assert row is not None
    assert (row.opened.id, row.closed.status) == ("gen-1", 200)
    journal.give_back(slot)
    journal.close()
