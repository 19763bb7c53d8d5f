"""Tables as CSV: what was written is read back, and no text is a formula."""

from __future__ import annotations

import csv
import io

import pytest

from outrider.dialects.csv_table import encode_csv


@pytest.mark.parametrize("first", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_text_that_a_spreadsheet_would_run_begins_with_an_apostrophe(first: str) -> None:
    ((heading,), (cell,)) = csv.reader(io.StringIO(encode_csv(("a",), [(first + "1",)]).decode()))
    assert (heading, cell) == ("a", f"'{first}1")


def test_numbers_and_empty_cells_stay_as_they_are() -> None:
    assert encode_csv(("a", "b", "c"), [(-1, None, 'x "y", z')]) == (
        b'a,b,c\r\n-1,,"x ""y"", z"\r\n'
    )
