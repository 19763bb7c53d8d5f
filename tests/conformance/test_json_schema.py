"""Every schema of the suite is enforced exactly or refused, and the documents say how many."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.json_schema import DRAFTS, SUITE, row, run

PAGE = Path(__file__).parents[2] / "docs" / "structured-output.md"


@pytest.mark.skipif(not SUITE.is_dir(), reason=f"{SUITE} isn't there")
@pytest.mark.parametrize("draft", DRAFTS)
def test_schemas_are_enforced_exactly_or_refused(
    draft: str, capsys: pytest.CaptureFixture[str]
) -> None:
    report = run(draft)
    with capsys.disabled():  # CI's log shows it
        print(row(draft, report))
    assert report.violations == []
    assert row(draft, report) in PAGE.read_text()
