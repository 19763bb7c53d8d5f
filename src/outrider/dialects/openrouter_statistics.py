"""OpenRouter's accounting and rankings: activity, apps and models by tokens.

Shapes follow its OpenAPI file. What can't be known here without reading prompts, or of users and
workspaces that don't exist, is refused by name. Amounts are in US dollars; totals of tokens are
strings, as there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from outrider.dialects.openrouter import usd
from outrider.dialects.openrouter_keys import WORKSPACE, check_workspace
from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.ledger_types import (
    APP_CATEGORIES,
    APP_SUBCATEGORIES,
    DAY_S,
    Activity,
    AppTokens,
    ModelTokens,
)

FLOOR = date(2025, 1, 1)
NUM_DAYS = 30
MAX_APPS, DEFAULT_APPS = 100, 50
NUM_MODELS = 50  # of each period; the rest is one row
OTHER = "other"

CONTEXT_BUCKETS = {"1K": 10**3, "10K": 10**4, "100K": 10**5, "1M": 10**6, "10M": 10**7}
MODALITIES = ("text", "image", "image_output", "audio", "tool_calling")

Period = Literal["day", "week", "month"]


class ActivityRow(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What one endpoint did on one day."""

    date: str
    model: str
    model_permaslug: str
    endpoint_id: str
    provider_name: str
    usage: float
    byok_usage_inference: float
    requests: int
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    workspace_id: str | UnsetType = UNSET


class ActivityAnswer(msgspec.Struct):
    """An answer about endpoints, day by day."""

    data: list[ActivityRow]


class Meta(msgspec.Struct):
    """What a ranking covers."""

    as_of: str
    start_date: str
    end_date: str
    version: str = "v1"


class AppRow(msgspec.Struct):
    """One app."""

    rank: int
    app_id: int
    app_name: str
    total_tokens: str
    total_requests: int


class AppRankings(msgspec.Struct):
    """Apps in order."""

    data: list[AppRow]
    meta: Meta


class ModelRow(msgspec.Struct):
    """One model in one period."""

    date: str
    model_permaslug: str
    total_tokens: str


class RankingsDaily(msgspec.Struct):
    """Models in each period."""

    data: list[ModelRow]
    meta: Meta


class Window(NamedTuple):
    """Whole days, both included."""

    first: date
    last: date

    @property
    def first_s(self) -> int:
        """When it begins."""
        return begin_s(self.first)

    @property
    def last_s(self) -> int:
        """When its last day begins."""
        return begin_s(self.last)

    def meta(self, now_s: float) -> Meta:
        """Say what a ranking covers."""
        as_of = datetime.fromtimestamp(now_s, UTC).isoformat(timespec="milliseconds")
        return Meta(as_of.replace("+00:00", "Z"), str(self.first), str(self.last))


class ActivityQuery(NamedTuple):
    """Which activity is wanted."""

    window: Window
    key: str | None
    has_workspaces: bool


class AppQuery(NamedTuple):
    """Which apps are wanted."""

    window: Window
    is_trending: bool
    offset: int
    limit: int
    categories: tuple[str, ...] | None  # of what apps say they are; None: anything


class ModelQuery(NamedTuple):
    """Which models are wanted."""

    window: Window
    period: Period
    modality: str
    context_tokens: int | None


def read_activity(query: Mapping[str, str], now_s: float) -> ActivityQuery:
    """Read which activity is wanted; raises `InvalidRequest`."""
    if query.get("user_id"):
        raise UnsupportedParameter("there are no users here; leave user_id out", "user_id")
    check_workspace(query.get("workspace_id"))
    _one_of(query, "group_by", ("workspace",))
    last = _today(now_s) - timedelta(days=1)
    window = Window(last - timedelta(days=NUM_DAYS - 1), last)
    if "date" in query:
        day = _date(query, "date")
        if not window.first <= day <= window.last:
            raise InvalidRequest(
                f"date must be one of the last {NUM_DAYS} days that have ended in UTC, "
                f"{window.first} to {window.last}",
                "date",
            )
        window = Window(day, day)
    return ActivityQuery(window, query.get("api_key_hash"), "group_by" in query)


def read_apps(query: Mapping[str, str], now_s: float) -> AppQuery:
    """Read which apps are wanted; raises `InvalidRequest`."""
    categories = _read_categories(query)
    sort = _one_of(query, "sort", ("popular", "trending"))
    offset = _whole_number(query, "offset", 0, 0)
    limit = _whole_number(query, "limit", DEFAULT_APPS, 1)
    window = read_window(query, now_s)
    return AppQuery(window, sort == "trending", offset, limit, categories)


def read_models(query: Mapping[str, str], now_s: float) -> ModelQuery:
    """Read which models are wanted; raises `InvalidRequest`."""
    _refuse(query, ("category", "language_type"), "prompts aren't read here to sort them")
    period = _one_of(query, "period", ("day", "week", "month"))
    bucket = _one_of(query, "context_bucket", tuple(CONTEXT_BUCKETS))
    return ModelQuery(
        read_window(query, now_s),
        msgspec.convert(period or "day", Period),
        _one_of(query, "modality", MODALITIES) or "text",
        CONTEXT_BUCKETS[bucket] if bucket else None,
    )


def read_window(query: Mapping[str, str], now_s: float) -> Window:
    """Read a time: 30 days up to the last that has ended, unless the query says otherwise."""
    last = _date(query, "end_date", _today(now_s) - timedelta(days=1))
    if last < FLOOR:
        raise InvalidRequest(f"end_date must be on or after {FLOOR}", "end_date")
    first = _date(query, "start_date", last - timedelta(days=NUM_DAYS - 1))
    if first > last:
        raise InvalidRequest(f"start_date must not be after end_date, {last}", "start_date")
    return Window(max(first, FLOOR), last)


def period_begin_s(day_s: int, period: Period) -> int:
    """Give when the period begins that a day lies in; weeks begin on Monday."""
    day = date.fromordinal(date(1970, 1, 1).toordinal() + day_s // DAY_S)
    if period == "week":
        day -= timedelta(days=day.weekday())
    elif period == "month":
        day = day.replace(day=1)
    return begin_s(day)


def encode_activity(
    rows: Sequence[Activity], display_names: Mapping[str, str], *, has_workspaces: bool
) -> bytes:
    """Write what endpoints did."""
    data = [
        ActivityRow(
            date=_day(row.day_s),
            model=row.model,
            model_permaslug=row.model,
            endpoint_id=f"{row.provider}/{row.model}",
            provider_name=display_names.get(row.provider, row.provider),
            usage=usd(row.cost_microusd),
            byok_usage_inference=0.0,
            requests=row.requests,
            prompt_tokens=row.prompt_tokens,
            completion_tokens=row.completion_tokens,
            reasoning_tokens=0,
            workspace_id=WORKSPACE if has_workspaces else UNSET,
        )
        for row in rows
    ]
    return msgspec.json.encode(ActivityAnswer(data))


def encode_apps(apps: Sequence[AppTokens], query: AppQuery, now_s: float) -> bytes:
    """Write a page of all apps that are in order."""
    page = apps[query.offset : query.offset + query.limit]
    rows = [
        AppRow(rank, app.app, app.title, str(app.tokens), app.requests)
        for rank, app in enumerate(page, query.offset + 1)
    ]
    return msgspec.json.encode(AppRankings(rows, query.window.meta(now_s)))


def encode_models(models: Sequence[ModelTokens], query: ModelQuery, now_s: float) -> bytes:
    """Write the first models of each period and the rest as one row; `models` are in order."""
    rows: list[ModelRow] = []
    periods: dict[int, list[ModelTokens]] = {}
    for model in models:
        periods.setdefault(model.begin_s, []).append(model)
    for begins_s, group in periods.items():
        day = _day(begins_s)
        rows += [ModelRow(day, each.model, str(each.tokens)) for each in group[:NUM_MODELS]]
        if rest := sum(each.tokens for each in group[NUM_MODELS:]):
            rows.append(ModelRow(day, OTHER, str(rest)))
    return msgspec.json.encode(RankingsDaily(rows, query.window.meta(now_s)))


def begin_s(day: date) -> int:
    """Give when a day begins."""
    return (day.toordinal() - date(1970, 1, 1).toordinal()) * DAY_S


def _day(day_s: int) -> str:
    return str(datetime.fromtimestamp(day_s, UTC).date())


def _today(now_s: float) -> date:
    return datetime.fromtimestamp(now_s, UTC).date()


def _date(query: Mapping[str, str], name: str, default: date | None = None) -> date:
    text = query.get(name)
    if text is None and default is not None:
        return default
    try:
        if text is None or len(text) != len("2026-05-11"):
            raise ValueError
        return datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError:
        raise InvalidRequest(f"{name} must be a day such as 2026-05-11", name) from None


def _one_of(query: Mapping[str, str], name: str, allowed: tuple[str, ...]) -> str:
    text = query.get(name, "")
    if name in query and text not in allowed:
        raise InvalidRequest(
            f"{name} is {text[:50]!r}; it must be one of {', '.join(allowed)}", name
        )
    return text


def _read_categories(query: Mapping[str, str]) -> tuple[str, ...] | None:
    group = _one_of(query, "category", tuple(APP_CATEGORIES))
    subcategory = _one_of(query, "subcategory", APP_SUBCATEGORIES)
    if not subcategory:
        return APP_CATEGORIES[group] if group else None
    if group and subcategory not in APP_CATEGORIES[group]:
        raise InvalidRequest(
            f"{subcategory} isn't in {group}, which has {', '.join(APP_CATEGORIES[group])}; "
            "leave category out",
            "subcategory",
        )
    return (subcategory,)


def _refuse(query: Mapping[str, str], names: tuple[str, ...], reason: str) -> None:
    for name in names:
        if name in query:
            raise UnsupportedParameter(f"{reason}; leave {name} out", name)


def _whole_number(query: Mapping[str, str], name: str, default: int, low: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 4 and low <= int(text) <= MAX_APPS):
        raise InvalidRequest(f"{name} must be a whole number from {low} to {MAX_APPS}", name)
    return int(text)
