"""The operations of OpenRouter's accounting and rankings in the OpenAPI document."""

from __future__ import annotations

from outrider.dialects import openrouter_generation
from outrider.dialects import openrouter_statistics as kinds
from outrider.dialects.openrouter_answers import RoutedError
from outrider.dialects.openrouter_keys import WORKSPACE
from outrider.server.openapi import Operation, Schema, Wire, errors

_WIRE = Wire("OpenRouter", errors((400, 401, 403, 404, 500, 503), RoutedError))
_TEXT: Schema = {"type": "string"}
_DAY: Schema = {"type": "string", "format": "date"}
_WINDOW = {"start_date": _DAY, "end_date": _DAY}
_ACTIVITY: dict[str, Schema] = {
    "date": _DAY,
    "api_key_hash": _TEXT,
    "group_by": {"type": "string", "enum": ["workspace"]},
    "workspace_id": {"type": "string", "enum": [WORKSPACE]},
}
_APPS: dict[str, Schema] = {
    **_WINDOW,
    "sort": {"type": "string", "enum": ["popular", "trending"]},
    "limit": {"type": "integer", "minimum": 1, "maximum": kinds.MAX_APPS},
    "offset": {"type": "integer", "minimum": 0, "maximum": kinds.MAX_APPS},
}
_MODELS: dict[str, Schema] = {
    **_WINDOW,
    "period": {"type": "string", "enum": ["day", "week", "month"]},
    "modality": {"type": "string", "enum": list(kinds.MODALITIES)},
    "context_bucket": {"type": "string", "enum": list(kinds.CONTEXT_BUCKETS)},
}


def statistics_operations() -> list[Operation]:
    """Give the operations."""
    read, datasets = (400, 401, 500, 503), "/api/v1/datasets/"
    return [
        Operation(
            "GET", "/api/v1/generation", "Show what a request used and cost.", _WIRE,
            (openrouter_generation.GenerationAnswer,), query={"id": _TEXT}, statuses=(*read, 404),
        ),
        Operation(
            "GET", "/api/v1/generation/content", "Show prompt and answer, if they were kept.",
            _WIRE, (openrouter_generation.ContentAnswer,), query={"id": _TEXT},
            statuses=(*read, 404),
        ),
        Operation(
            "GET", "/api/v1/activity", "Show what endpoints did in the last thirty days.", _WIRE,
            (kinds.ActivityAnswer,), query=_ACTIVITY, statuses=(*read, 403),
        ),
        Operation(
            "GET", datasets + "app-rankings", "Rank apps by tokens.", _WIRE,
            (kinds.AppRankings,), query=_APPS, statuses=read,
        ),
        Operation(
            "GET", datasets + "rankings-daily", "Rank models by tokens, day by day.", _WIRE,
            (kinds.RankingsDaily,), query=_MODELS, statuses=read,
        ),
    ]  # fmt: skip
