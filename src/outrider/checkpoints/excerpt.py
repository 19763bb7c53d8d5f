"""Values out of files, as error messages show them: printable, on one line and short.

A file can hold numbers of thousands of digits and names of any length; a message names what it
found and stays readable.
"""

from __future__ import annotations

import reprlib

_MAX_CHARS = 80
_TAIL_CHARS = 16
_SHORT = reprlib.Repr()  # also bounds how deep it looks: a config can be nested deeper than a stack
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxdict = 24
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = _MAX_CHARS


def excerpt(text: str) -> str:
    """Give a text, or its beginning and end if it is long."""
    if not text.isprintable():
        text = _SHORT.repr(text)
    if len(text) <= _MAX_CHARS:
        return text
    return f"{text[: _MAX_CHARS - _TAIL_CHARS]}…{text[-_TAIL_CHARS:]}"


def shown(value: object) -> str:
    """Give a value as Python writes it, shortened."""
    return excerpt(_SHORT.repr(value))
