"""What a model's page shows beyond OpenRouter's catalogue: published facts, and how it was used.

Own endpoints that no other service has, so plain JSON in snake_case with errors in OpenAI's form.
Times are ISO 8601 in UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from outrider.dialects.openrouter_filters import whole_number
from outrider.ledger_types import DAY_S, HOUR_S, ModelApp, ModelDay, ModelHour
from outrider.model_cards import ModelFacts, ModelListing
from outrider.types import ImageTiles

DEFAULT_DAYS, MAX_DAYS = 30, 366
HOURS = 72  # of the chart of uptime
MAX_APPS = 20


class ModelPage(msgspec.Struct, kw_only=True):
    """What is known of a model; `facts` is null for one that isn't recognised.

    `image_tiles` says how pictures are cut, where the model runs here and reads them.
    """

    id: str
    aliases: list[str]
    facts: ModelFacts | None
    image_tiles: ImageTiles | None


class DayRow(msgspec.Struct):
    """One day of a model; failures are those of the server and of hosts, never the caller's."""

    day: str
    requests: int
    failures: int
    prompt_tokens: int
    completion_tokens: int


class HourRow(msgspec.Struct):
    """One hour of a model; `uptime` leaves out what callers got wrong, null if nothing is left."""

    begin: str
    requests: int
    refused: int
    failures: int
    uptime: float | None


class AppRow(msgspec.Struct):
    """One app that used a model; title and address are the app's own words."""

    title: str
    url: str
    requests: int
    tokens: int


class ModelUse(msgspec.Struct, kw_only=True):
    """How a model was used: every day and hour is there, the last ones running still."""

    model: str
    as_of: str
    days: list[DayRow]
    hours: list[HourRow]
    apps: list[AppRow]


class Window(NamedTuple):
    """From when on something is wanted; both are the begin of a period."""

    first_day_s: int
    first_hour_s: int
    now_s: int


def read_window(query: Mapping[str, str], now_s: float) -> Window:
    """Read which days are wanted; raises `InvalidRequest`."""
    num_days = whole_number(query, "days", DEFAULT_DAYS, 1, MAX_DAYS)
    now = int(now_s)
    return Window(
        now // DAY_S * DAY_S - (num_days - 1) * DAY_S,
        now // HOUR_S * HOUR_S - (HOURS - 1) * HOUR_S,
        now,
    )


def encode_page(model: ModelListing, names: Iterable[str]) -> ModelPage:
    """Give the page of a model."""
    aliases = [name for name in names if name != model.name]
    return ModelPage(
        id=model.name, aliases=aliases, facts=model.facts, image_tiles=model.image_tiles
    )


def encode_use(
    model: str,
    window: Window,
    days: Iterable[ModelDay],
    hours: Iterable[ModelHour],
    apps: Sequence[ModelApp],
) -> bytes:
    """Write how a model was used, with a row for each day and hour, used or not."""
    by_day = {period.begin_s: period for period in days}
    by_hour = {period.begin_s: period for period in hours}
    use = ModelUse(
        model=model,
        as_of=_time(window.now_s),
        days=[_day(by_day, at) for at in range(window.first_day_s, window.now_s + 1, DAY_S)],
        hours=[_hour(by_hour, at) for at in range(window.first_hour_s, window.now_s + 1, HOUR_S)],
        apps=[AppRow(app.title, app.url, app.requests, app.tokens) for app in apps],
    )
    return msgspec.json.encode(use)


def _day(known: Mapping[int, ModelDay], at_s: int) -> DayRow:
    it = known.get(at_s) or ModelDay(at_s)
    return DayRow(
        _time(at_s)[:10], it.requests, it.failures, it.prompt_tokens, it.completion_tokens
    )


def _hour(known: Mapping[int, ModelHour], at_s: int) -> HourRow:
    it = known.get(at_s) or ModelHour(at_s)
    answerable = it.requests - it.refused
    uptime = (answerable - it.failures) / answerable if answerable else None
    return HourRow(_time(at_s), it.requests, it.refused, it.failures, uptime)


def _time(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
