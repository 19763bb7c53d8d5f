"""What is read out of the ledger, for the wires that show it; money in microusd, times in UTC."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec
from msgspec.structs import astuple

from outrider.routing_types import Attempt


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """One request as the ledger has it."""

    id: str
    request_id: str
    created_ms: int
    key: str
    app: int | None
    app_url: str
    wire: str
    api_type: str
    model: str
    provider: str  # empty: nobody answered
    upstream_id: str
    session: str
    user_agent: str
    attempts: tuple[Attempt, ...]
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    num_images: int
    cost_microusd: int
    cache_discount_microusd: int  # what cached tokens cost less than others
    status: int
    error_code: str
    finish_reason: str
    native_reason: str
    first_token_ms: int | None
    duration_ms: int
    is_streamed: bool
    is_cancelled: bool
    is_estimated: bool


class KeptCall(msgspec.Struct, frozen=True):
    """A tool call of an answer that was kept."""

    id: str
    name: str
    arguments: str


class KeptChoice(msgspec.Struct, frozen=True):
    """One choice of an answer that was kept, as far as it was handed on."""

    text: str
    tool_calls: tuple[KeptCall, ...] = ()
    finish_reason: str | None = None  # None: it was cut


class KeptFailure(msgspec.Struct, frozen=True):
    """How one host, or the whole request, failed."""

    message: str
    status: int
    provider: str = ""  # as people read it


class KeptAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a request; the last failure is the one that the caller got."""

    choices: tuple[KeptChoice, ...] = ()
    failures: tuple[KeptFailure, ...] = ()


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """Prompt and answer of one request, which its key had kept."""

    id: str  # that of the ledger's row
    key: str
    created_s: int
    prompt: bytes  # JSON: an object with `messages`, as OpenAI has them, or with `prompt`
    answer: KeptAnswer


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """What one endpoint did on one day."""

    day_s: int  # its begin
    model: str
    provider: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost_microusd: int


class AppTokens(msgspec.Struct, frozen=True, kw_only=True):
    """What one app used in a time."""

    app: int
    title: str
    requests: int
    tokens: int


# What apps say they are, by group. Both kinds of names are OpenRouter's; which category is in
# which group is our own reading of them, and stands here alone.
APP_CATEGORIES: dict[str, tuple[str, ...]] = {
    "coding": (
        "cli-agent", "ide-extension", "cloud-agent", "programming-app", "native-app-builder",
    ),
    "creative": ("creative-writing", "video-gen", "image-gen", "audio-gen"),
    "productivity": ("writing-assistant", "general-chat", "personal-agent", "legal"),
    "entertainment": ("roleplay", "game"),
}  # fmt: skip
APP_SUBCATEGORIES = tuple(name for names in APP_CATEGORIES.values() for name in names)


class ModelTokens(msgspec.Struct, frozen=True, kw_only=True):
    """What one model gave and took in a period."""

    begin_s: int
    model: str
    tokens: int


class ModelDay(msgspec.Struct, frozen=True):
    """What one model did in a day."""

    begin_s: int
    requests: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class ModelHour(msgspec.Struct, frozen=True):
    """How one model did in an hour: refused is the caller's own fault, failures are not."""

    begin_s: int
    requests: int = 0
    refused: int = 0
    failures: int = 0


class ModelApp(msgspec.Struct, frozen=True, kw_only=True):
    """What one app used of one model."""

    title: str
    url: str
    requests: int
    tokens: int


class LogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One request as a list of them shows it."""

    number: int  # order of writing
    id: str
    created_ms: int
    key: str
    app_url: str
    app_title: str
    wire: str
    api_type: str
    model: str
    provider: str  # empty: nobody answered
    attempts: tuple[Attempt, ...]
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost_microusd: int
    status: int
    error_code: str
    finish_reason: str
    first_token_ms: int | None
    duration_ms: int
    is_streamed: bool
    is_cancelled: bool


class LogFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests of the ledger are wanted; None: all."""

    since_ms: int | None = None
    until_ms: int | None = None  # not included
    key: str | None = None
    model: str | None = None
    provider: str | None = None
    lowest_status: int | None = None
    highest_status: int | None = None


FacetKind = Literal["model", "provider", "key", "app"]
HOUR_S, DAY_S = 3600, 86_400


class Span(NamedTuple):
    """Hours or days from one to another, both included; given by when they begin."""

    first_s: int
    last_s: int
    step_s: int  # of an hour or a day

    def begins(self) -> range:
        """Give when each begins."""
        return range(self.first_s, self.last_s + 1, self.step_s)

    def whole_days(self) -> Span:
        """Give the days that it has a part of."""
        return Span(self.first_s // DAY_S * DAY_S, self.last_s // DAY_S * DAY_S, DAY_S)


class Sums(msgspec.Struct, frozen=True):
    """Requests added up."""

    requests: int = 0
    failures: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_microusd: int = 0

    @property
    def tokens(self) -> int:
        """Those of prompts and of answers."""
        return self.prompt_tokens + self.completion_tokens

    def __sub__(self, other: Sums) -> Sums:
        return Sums(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


class UsageGroup(msgspec.Struct, frozen=True):
    """What one model, provider, key or app did."""

    name: str
    sums: Sums
    points: dict[int, Sums] | None  # by when a period begins; None: not one of the first


class Usage(msgspec.Struct, frozen=True):
    """What was used in a span, and by whom; groups are in order, most tokens first."""

    sums: Sums
    points: dict[int, Sums]
    groups: list[UsageGroup]
    rest: Sums  # of those that aren't among the groups
    rest_points: dict[int, Sums]  # of all that have no points of their own


class Percentiles(msgspec.Struct, frozen=True):
    """Times of answered requests in milliseconds; None without any."""

    count: int = 0
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None


class Times(msgspec.Struct, frozen=True):
    """Times to the first token and whole times."""

    first_token: Percentiles = Percentiles()
    duration: Percentiles = Percentiles()


class Latencies(msgspec.Struct, frozen=True):
    """Times in a span, and of whom; of one key and of groups they are known by days."""

    span: Span
    times: Times
    points: dict[int, Times]
    groups: list[tuple[str, Times]]  # in the span's whole days


class Errors(msgspec.Struct, frozen=True):
    """What went wrong in a span: counts by whose fault it was."""

    points: dict[int, dict[str, int]]
    statuses: list[tuple[str, int, int]]  # origin, status, how many; most first
    groups: list[tuple[str, dict[str, int]]]  # most first
