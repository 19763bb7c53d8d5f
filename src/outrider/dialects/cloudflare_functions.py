"""Embedded functions of Workers AI's native wire, both ways: names of tools and their code.

The service documents no more than the two fields. Whether and how code runs is for the server.
"""

from __future__ import annotations

from typing import Any

from outrider.dialects.cloudflare_refusals import is_empty, read_as
from outrider.dialects.cloudflare_types import Function
from outrider.types import EmbeddedFunction, GenerationRequest


def read_functions(fields: dict[str, Any]) -> tuple[EmbeddedFunction, ...]:
    """Read the field functions; it may be empty in any way."""
    value = fields.get("functions")
    if is_empty(value):
        return ()
    wire = read_as(value, list[Function], "/functions")
    return tuple(EmbeddedFunction(function.name, function.code) for function in wire)


def write_functions(request: GenerationRequest) -> dict[str, Any]:
    """Write the field that a client would send."""
    if not request.functions:
        return {}
    return {"functions": [{"name": f.name, "code": f.code} for f in request.functions]}
