"""The operations of OpenRouter's accounting and of our own statistics in the OpenAPI document."""

from __future__ import annotations

from outrider.dialects import openrouter_generation
from outrider.dialects import openrouter_statistics as kinds
from outrider.dialects import outrider_statistics as own
from outrider.dialects.openai_answers import ErrorBody
from outrider.dialects.openrouter_answers import RoutedError
from outrider.dialects.openrouter_keys import WORKSPACE
from outrider.ledger_types import APP_CATEGORIES, APP_SUBCATEGORIES
from outrider.server.engine_history import EnginesAnswer
from outrider.server.openapi import CSV, Operation, Schema, Wire, errors

_WIRE = Wire("OpenRouter", errors((400, 401, 403, 404, 500, 503), RoutedError))
_OWN = Wire("Operating", errors((400, 401, 403, 500, 503), ErrorBody))
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
    "category": {"type": "string", "enum": list(APP_CATEGORIES)},
    "subcategory": {"type": "string", "enum": list(APP_SUBCATEGORIES)},
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


_OWN_QUERY: dict[str, Schema] = {
    "range": {"type": "string", "enum": list(own.RANGES)},
    **_WINDOW,
    "group_by": {"type": "string", "enum": list(own.GROUPS)},
    "key": _TEXT,
    "format": {"type": "string", "enum": list(own.FORMATS)},
}


def own_statistics_operations() -> list[Operation]:
    """Give the operations of our own statistics."""
    below = "/outrider/v1/statistics/"

    def over_a_range(name: str, summary: str, answer: type) -> Operation:
        statuses = (400, 401, 403, 500, 503)
        return Operation(
            "GET", below + name, summary, _OWN, (answer,), query=_OWN_QUERY, statuses=statuses,
            text_types=(CSV,),
        )  # fmt: skip

    return [
        over_a_range("usage", "Show tokens, cost and requests by time and group.", own.UsageAnswer),
        over_a_range("latency", "Show percentiles of times.", own.LatencyAnswer),
        over_a_range("errors", "Show what failed, and by whose fault.", own.ErrorsAnswer),
        Operation(
            "GET", below + "engines", "Show what the engines did in the last minutes.", _OWN,
            (EnginesAnswer,), statuses=(401, 403, 500, 503),
        ),
    ]  # fmt: skip
