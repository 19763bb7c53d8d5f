"""The operations on what is kept of requests in the OpenAPI document; they are no wire's."""

from __future__ import annotations

from outrider.dialects.contents import DeletedContent, DeletedContents
from outrider.dialects.openai_answers import ErrorBody
from outrider.server.openapi import Operation, Schema, Wire, errors

_WIRE = Wire("Outrider", errors((400, 401, 403, 404, 500, 503), ErrorBody))
_CONTENTS = "/outrider/v1/contents"
_HASH: Schema = {"type": "string", "pattern": "^[0-9a-f]{64}$"}


def content_operations() -> list[Operation]:
    """Give the operations."""
    return [
        Operation(
            "DELETE", _CONTENTS, "Delete what is kept for a key.", _WIRE, (DeletedContents,),
            query={"key": _HASH}, statuses=(400, 401, 403, 500, 503),
        ),
        Operation(
            "DELETE", _CONTENTS + "/{id}", "Delete what is kept of a request.", _WIRE,
            (DeletedContent,), statuses=(401, 404, 500, 503),
        ),
    ]  # fmt: skip
