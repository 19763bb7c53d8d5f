"""The operations of the models' pages in the OpenAPI document."""

from __future__ import annotations

from outrider.dialects import model_pages as kinds
from outrider.dialects import openai_answers
from outrider.server.openapi import Operation, Wire, errors

_WIRE = Wire("Outrider", errors((400, 401, 404, 500, 503), openai_answers.ErrorBody))


def model_operations() -> list[Operation]:
    """Give the operations."""
    return [
        Operation(
            "GET", "/outrider/v1/models/{model}", "Show what was published of a model.", _WIRE,
            (kinds.ModelPage,), statuses=(404, 500),
        ),
        Operation(
            "GET", "/outrider/v1/use/{model}", "Show how a model was used.", _WIRE,
            (kinds.ModelUse,), statuses=(400, 401, 404, 500, 503),
            query={"days": {"type": "integer", "minimum": 1, "maximum": kinds.MAX_DAYS}},
        ),
    ]  # fmt: skip
