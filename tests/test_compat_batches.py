"""docs/compat.md says what becomes of the fields of files and batches, as their codecs do."""

from __future__ import annotations

from pathlib import Path

from outrider.dialects import cloudflare_batch, openai_batches, openai_files

PAGE = Path(__file__).parents[1] / "docs" / "compat.md"
BODIES = {
    "upload": openai_files.UPLOAD_FIELDS,
    "new batch": openai_batches.BATCH_FIELDS,
    "line of a batch": openai_batches.LINE_FIELDS,
    "queue": cloudflare_batch.FIELDS,
}


def table() -> str:
    """Write the page's table: one row per field, one column per body."""
    names = sorted({name for body in BODIES.values() for name in body})
    rows = [f"| field | {' | '.join(BODIES)} |", "|---" * (len(BODIES) + 1) + "|"]
    for name in names:
        rows.append(f"| `{name}` | {' | '.join(body.get(name, '–') for body in BODIES.values())} |")
    return "\n".join(rows) + "\n"


def test_the_table_of_files_and_batches_is_that_of_the_codecs() -> None:
    assert table() in PAGE.read_text(encoding="utf-8"), table()
