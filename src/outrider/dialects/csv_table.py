"""Tables as CSV (RFC 4180) for spreadsheets, which would run a text that begins like a formula.

Apps and keys are named by strangers, so every such text begins with an apostrophe here.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")


def encode_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Write a table; None is an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def _cell(value: object) -> object:
    is_formula = isinstance(value, str) and value.startswith(_FORMULAS)
    return f"'{value}" if is_formula else value
