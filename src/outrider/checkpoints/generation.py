"""Sampling defaults that come with a model, checked as if a request had sent them.

A checkpoint may set how tokens are chosen, never what one request asks for; other fields of its
file are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from outrider.errors import CheckpointError, InvalidRequest
from outrider.types import SamplingParams

_PER_REQUEST = {"logit_bias", "seed", "stop", "max_tokens", "ignore_eos", "logprobs", "n"}
_DEFAULTS = frozenset(SamplingParams.__struct_fields__) - _PER_REQUEST


def sampling_defaults(label: str, values: Mapping[str, object]) -> dict[str, float]:
    """Pick the sampling fields out of `values`; a value out of range is refused by its name."""
    found = {
        name: value for name, value in values.items() if name in _DEFAULTS and value is not None
    }
    try:
        msgspec.convert(found, SamplingParams)
    except (msgspec.ValidationError, InvalidRequest) as error:
        raise CheckpointError(f"{label}: {error}; correct or remove the field") from error
    return found  # type: ignore[return-value]
