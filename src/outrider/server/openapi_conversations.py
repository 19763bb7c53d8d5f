"""The operations on conversations in the OpenAPI document; they are no wire's."""

from __future__ import annotations

from outrider.conversation_types import Summary
from outrider.dialects import conversations as kinds
from outrider.dialects.openai_answers import ErrorBody
from outrider.server.openapi import Body, Operation, Schema, Wire, answered_by, errors

_WIRE = Wire("Outrider", errors((400, 401, 403, 404, 408, 409, 413, 500, 503), ErrorBody))
_operation = answered_by(_WIRE, 401, 403, 500, 503)
_ALL, _ONE = "/outrider/v1/conversations", "/outrider/v1/conversations/{id}"
_TEXT: Schema = {"type": "string"}
_QUERY: dict[str, Schema] = {
    "q": _TEXT,
    "after": _TEXT,
    "limit": {"type": "integer", "minimum": 1, "maximum": kinds.MAX_PAGE},
}


def conversation_operations() -> list[Operation]:
    """Give the operations."""
    page, whole = kinds.ConversationPage, kinds.OneConversation
    return [
        _operation("GET", _ALL, "List and search conversations.", page, (400,), query=_QUERY),
        _operation("GET", _ONE, "Give a conversation.", whole, (404,)),
        _operation(
            "PUT", _ONE, "Write a conversation.", Summary, (400, 408, 409, 413),
            body=Body(kinds.ConversationBody),
        ),
        _operation(
            "DELETE", _ONE, "Delete a conversation.", kinds.DeletedConversation, (404,)
        ),
    ]  # fmt: skip
