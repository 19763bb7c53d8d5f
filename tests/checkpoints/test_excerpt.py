"""Values in error messages stay short and on one line."""

from __future__ import annotations

from typing import Any

import pytest

from outrider.checkpoints.excerpt import excerpt, shown

DEEP: list[Any] = []
for _ in range(900):
    DEEP = [DEEP]


@pytest.mark.parametrize("value", [7, -0.5, None, "gelu", [336, 448], {"a": 1}, True])
def test_short_values_are_shown_as_python_writes_them(value: object) -> None:
    assert shown(value) == repr(value)


@pytest.mark.parametrize(
    "value", [10**4000, "x" * 5000, [1] * 10**5, DEEP, {"k" * 99: ["v" * 99] * 9}, "\n" * 300]
)
def test_long_values_keep_their_beginning(value: object) -> None:
    text = shown(value)
    assert len(text) <= 81
    assert text.isprintable()
    assert text[0] == ("[" if isinstance(value, list) else repr(value)[0])


def test_names_have_no_quotes_unless_they_cannot_be_printed() -> None:
    assert excerpt("model.norm.weight") == "model.norm.weight"
    assert excerpt("a\nb") == r"'a\nb'"
    long = excerpt("model." + "x" * 5000 + ".weight")
    assert len(long) <= 81
    assert long.startswith("model.xx")
    assert long.endswith("x.weight")
