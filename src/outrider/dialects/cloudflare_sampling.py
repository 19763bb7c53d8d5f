"""Sampling fields of Workers AI's native wire, both ways; their ranges are those of the types.

A value of the wire that the domain doesn't have gets its meaning here: 0 as a top_p, say. Refuses
to write what the wire can't carry.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from outrider.dialects.cloudflare_refusals import read_as, refused
from outrider.dialects.cloudflare_types import Choices
from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.types import GenerationRequest, SamplingParams

DEFAULTS = SamplingParams(max_tokens=256, temperature=0.15)
NUMBERS = (
    *("max_tokens", "temperature", "top_p", "top_k", "seed"),
    *("repetition_penalty", "frequency_penalty", "presence_penalty"),
)
SMALLEST_TOP_P = 1e-9  # the schema allows 0: only the best token is left
MOST_TOKENS = 2**31 - 1  # max_tokens has no range in the schema; this is the domain's


def read_sampling(wire: Choices) -> dict[str, Any]:
    """Give the sampling fields that the caller sent, as the domain means them."""
    values: dict[str, Any] = {
        name: value for name in NUMBERS if (value := getattr(wire, name)) is not UNSET
    }
    if not 1 <= values.get("max_tokens", 1) <= MOST_TOKENS:
        bound = ">= 1" if values["max_tokens"] < 1 else f"<= {MOST_TOKENS}"
        raise refused("/max_tokens", f"must be {bound}")
    if "top_p" in values:
        values["top_p"] = min(values["top_p"] or SMALLEST_TOP_P, 1.0)
    if "repetition_penalty" in values:  # the schema allows 0, which would divide by zero
        values["repetition_penalty"] = values["repetition_penalty"] or 1.0
    if wire.stop is not None and wire.stop is not UNSET:
        values["stop"] = (wire.stop,) if isinstance(wire.stop, str) else tuple(wire.stop)
    return values


def write_sampling(request: GenerationRequest, defaults: SamplingParams) -> dict[str, Any]:
    """Give the fields that were sent or differ from the wire's defaults."""
    body: dict[str, Any] = {}
    for name in SamplingParams.__struct_fields__:
        value = getattr(request.sampling, name)
        default = getattr(defaults, name)
        if name == "top_p":
            value = min(value, 1.0)
        is_carried = name == "stop" or (name in NUMBERS and _is_in_range(name, value))
        if value == default and not (is_carried and name in request.given):
            continue
        if not is_carried:
            raise UnsupportedParameter(f"{name} is {value}, which Workers AI can't carry", name)
        body[name] = value
    return body


def _is_in_range(name: str, value: float | None) -> bool:
    try:
        read_as({name: value}, Choices)
    except InvalidRequest:
        return False
    return True
