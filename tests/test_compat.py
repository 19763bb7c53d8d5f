"""docs/compat.md says what becomes of each field on each wire, as the codecs' own tables do."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from outrider.dialects import cloudflare, openai_wire, openrouter_request

PAGE = Path(__file__).parents[1] / "docs" / "compat.md"
ABSENT = "–"


def treatments(
    mapped: Collection[str], inert: Collection[str], refused: Collection[str]
) -> dict[str, str]:
    kinds = {"mapped": mapped, "inert": inert, "refused": refused}
    return {name: kind for kind, names in kinds.items() for name in names}


WIRES: dict[str, Mapping[str, str]] = {
    "OpenAI chat": treatments(
        openai_wire.CHAT_MAPPED, openai_wire.CHAT_INERT, openai_wire.CHAT_REFUSED
    ),
    "OpenAI completions": treatments(
        openai_wire.COMPLETION_MAPPED,
        openai_wire.COMPLETION_INERT,
        openai_wire.COMPLETION_REFUSED,
    ),
    "OpenRouter chat": openrouter_request.CHAT_FIELDS,
    "OpenRouter completions": openrouter_request.COMPLETION_FIELDS,
    "Workers AI": {**cloudflare.FIELDS, "requests": "mapped"},  # by the queue, not the codec
    # The same model inputs, inside of `data`; streams aren't documented there.
    "Dataoorts": {**cloudflare.FIELDS, "model": "mapped", "stream": "refused"},
}


def table() -> str:
    """Write the page's table: one row per field, one column per wire."""
    names = sorted({name for wire in WIRES.values() for name in wire if "[]" not in name})
    rows = [f"| field | {' | '.join(WIRES)} |", "|---" * (len(WIRES) + 1) + "|"]
    for name in names:
        cells = [wire.get(name, ABSENT) for wire in WIRES.values()]
        rows.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def test_the_table_of_all_fields_is_that_of_the_codecs() -> None:
    assert table() in PAGE.read_text(encoding="utf-8"), table()


def test_every_treatment_is_explained() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for kind in {kind for wire in WIRES.values() for kind in wire.values()}:
        assert f"*{kind}*" in text
