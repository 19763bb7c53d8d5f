"""The operations of OpenRouter's keys and credits in the OpenAPI document."""

from __future__ import annotations

from outrider.dialects import openrouter_keys as keys
from outrider.dialects.openrouter_answers import RoutedError
from outrider.server.openapi import Body, Operation, Schema, Wire, answered_by, errors

_WIRE = Wire("OpenRouter", errors((400, 401, 403, 404, 408, 413, 500, 503), RoutedError))
_operation = answered_by(_WIRE, 401, 500, 503)
_KEYS, _KEY = "/api/v1/keys", "/api/v1/keys/{hash}"
_QUERY: dict[str, Schema] = {
    "include_disabled": {"type": "string", "enum": ["true", "false"]},
    "include_expired": {"type": "string", "enum": ["true", "false"]},
    "offset": {"type": "integer", "minimum": 0, "maximum": 10**9 - 1},
    "workspace_id": {"type": "string", "enum": [keys.WORKSPACE]},
}
_READING = (400, 408, 413)  # of what is wrong with a body


def key_operations() -> list[Operation]:
    """Give the operations."""
    return [
        _operation("GET", "/api/v1/key", "Show the request's own key.", keys.ThisKey),
        _operation("GET", _KEYS, "List keys.", keys.KeyList, (400, 403), query=_QUERY),
        _operation(
            "POST", _KEYS, "Make a key; its secret is shown this once.", keys.CreatedKey,
            (*_READING, 403), body=Body(keys.NewKey), success=201,
        ),
        _operation("GET", _KEY, "Show a key.", keys.OneKey, (403, 404)),
        _operation(
            "PATCH", _KEY, "Change a key.", keys.OneKey, (*_READING, 403, 404),
            body=Body(keys.KeyChange),
        ),
        _operation("DELETE", _KEY, "Revoke a key.", keys.DeletedKey, (403, 404)),
        _operation("GET", "/api/v1/credits", "Say what keys spent.", keys.CreditsAnswer, (403,)),
    ]  # fmt: skip
