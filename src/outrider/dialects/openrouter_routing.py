"""What a request of OpenRouter's wire says about hosts and models, read into `Routing`.

The object `provider`, fallback models, suffixes and sessions. What can't be honoured is refused by
name; dollars become millionths of a dollar, rounded down, so that a limit is never exceeded.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal

import msgspec

from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.routing_types import MaxPrice, Percentile, Routing, SortBy, WantedModel

MAX_MODELS = 32
MAX_HOSTS = 64
MAX_SESSION_CHARS = 256
MAX_DOLLARS = 10**9
# What `:free` and the like ask for; a model may have a name that ends so, and is meant then.
VARIANT_SORTS: dict[str, SortBy | None] = {
    "free": None, "nitro": "throughput", "floor": "price", "exacto": "exacto",
}  # fmt: skip

Quantization = Literal[
    "int4", "int8", "fp4", "mxfp4", "nvfp4", "fp6", "fp8", "mxfp8", "fp16", "bf16", "fp32",
    "unknown",
]  # fmt: skip
Hosts = Annotated[list[str], msgspec.Meta(extra_json_schema={"maxItems": MAX_HOSTS})] | None
Dollars = float | str | None
_PERCENTILES: tuple[Percentile, ...] = ("p50", "p75", "p90", "p99")
# Fields inside of `provider`; what it has beside them is ignored and named.
INSIDE: dict[str, str] = {
    **{
        f"provider.{name}": "mapped"
        for name in (
            "order", "only", "ignore", "allow_fallbacks", "require_parameters",
            "data_collection", "zdr", "quantizations", "sort", "sort.by", "sort.partition",
            "max_price", *(f"max_price.{kind}" for kind in MaxPrice.__struct_fields__),
            *(
                f"{name}{part}"
                for name in ("preferred_min_throughput", "preferred_max_latency")
                for part in ("", *(f".{percentile}" for percentile in _PERCENTILES))
            ),
        )
    },
    "provider.max_price.audio": "inert",
    "provider.enforce_distillable_text": "refused",
}  # fmt: skip


class Sort(msgspec.Struct, frozen=True):
    """By what hosts are sorted, and whether those of all models together."""

    by: SortBy | None = None
    partition: Literal["model", "none"] | None = None


class PriceLimits(msgspec.Struct, frozen=True):
    """Dollars: per million tokens, per request, per image; numbers or decimal strings."""

    prompt: Dollars = None
    completion: Dollars = None
    request: Dollars = None
    image: Dollars = None
    audio: Dollars = None  # nothing here takes or makes sound


class Cutoffs(msgspec.Struct, frozen=True):
    """What has to hold for half, three quarters and so on of a host's answers."""

    p50: float | None = None
    p75: float | None = None
    p90: float | None = None
    p99: float | None = None


class Preferences(msgspec.Struct, frozen=True):
    """Which hosts may answer, and which of them first."""

    order: Hosts = None
    only: Hosts = None
    ignore: Hosts = None
    allow_fallbacks: bool | None = None
    require_parameters: bool | None = None
    data_collection: Literal["allow", "deny"] | None = None
    zdr: bool | None = None
    enforce_distillable_text: bool | None = None
    quantizations: list[Quantization] | None = None
    sort: SortBy | Sort | None = None
    max_price: PriceLimits | None = None
    preferred_min_throughput: float | Cutoffs | None = None
    preferred_max_latency: float | Cutoffs | None = None


class RoutingFields(msgspec.Struct, frozen=True):
    """The fields at the top that say who answers."""

    model: str | None = None
    models: (
        Annotated[list[str], msgspec.Meta(extra_json_schema={"maxItems": MAX_MODELS})] | None
    ) = None
    provider: Preferences | None = None
    route: Literal["fallback", "sort"] | None = None
    session_id: str | None = None
    prompt_cache_key: str | None = None


def read_routing(fields: RoutingFields, session: str = "") -> Routing:
    """Give what the fields ask for; `session` is the header's, and the body's goes before it."""
    wishes = fields.provider or Preferences()
    if wishes.enforce_distillable_text:
        raise UnsupportedParameter(
            "provider.enforce_distillable_text is true, and nothing here knows which models may be "
            "distilled; choose the model by its licence",
            "provider.enforce_distillable_text",
        )
    sort = wishes.sort if isinstance(wishes.sort, Sort) else Sort(wishes.sort)
    partition = sort.partition or ("none" if fields.route == "sort" else "model")
    return Routing(
        models=tuple(map(wanted_model, read_models(fields))),
        order=_hosts(wishes.order, "order"),
        only=_hosts(wishes.only, "only"),
        ignore=_hosts(wishes.ignore, "ignore"),
        allow_fallbacks=wishes.allow_fallbacks is not False,
        require_parameters=wishes.require_parameters is True,
        denies_data_collection=wishes.data_collection == "deny",
        requires_zero_retention=wishes.zdr is True,
        quantizations=tuple(wishes.quantizations or ()),
        sort=sort.by,
        sorts_across_models=partition == "none",
        max_price=_max_price(wishes.max_price or PriceLimits()),
        min_throughput=_cutoffs(wishes.preferred_min_throughput, "preferred_min_throughput"),
        max_latency_s=_cutoffs(wishes.preferred_max_latency, "preferred_max_latency"),
        session=_session(fields, session),
    )


def read_models(fields: RoutingFields) -> list[str]:
    """Give `model` and its fallbacks, best first; none if any model will do."""
    fallbacks = fields.models or []
    if len(fallbacks) > MAX_MODELS:
        raise InvalidRequest(
            f"models has {len(fallbacks)} entries; at most {MAX_MODELS} are allowed", "models"
        )
    return fallbacks if fields.model is None else [fields.model, *fallbacks]


def spellings(model: str) -> list[str]:
    """Give a name as it is, and without its variants."""
    spellings = [model]
    while model.rpartition(":")[2] in VARIANT_SORTS and ":" in model:
        model = model.rpartition(":")[0]
        spellings.append(model)
    return spellings


def wanted_model(model: str) -> WantedModel:
    """Give what a model's name and its variants ask for; of two sorts the first counts."""
    names = spellings(model)
    variants = model[len(names[-1]) + 1 :].split(":") if len(names) > 1 else []
    sorts = (VARIANT_SORTS[variant] for variant in variants)
    return WantedModel(
        names=tuple(names),
        is_free_only="free" in variants,
        sort=next((sort for sort in sorts if sort), None),
    )


def _hosts(names: list[str] | None, field: str) -> tuple[str, ...]:
    if names and len(names) > MAX_HOSTS:
        raise InvalidRequest(
            f"provider.{field} has {len(names)} entries; at most {MAX_HOSTS} are allowed",
            f"provider.{field}",
        )
    return tuple(names or ())


def _max_price(limits: PriceLimits) -> MaxPrice:
    read = {name: _microusd(limits, name) for name in PriceLimits.__struct_fields__}
    del read["audio"]
    return MaxPrice(**read)


def _microusd(limits: PriceLimits, name: str) -> int | None:
    value, path = getattr(limits, name), f"provider.max_price.{name}"
    if value is None:
        return None
    try:
        dollars = Decimal(str(value)[:100])
    except InvalidOperation:
        dollars = Decimal("NaN")
    if not dollars.is_finite() or not 0 <= dollars <= MAX_DOLLARS:
        raise InvalidRequest(f'{path} must be a price in dollars, such as 0.5 or "0.5"', path)
    return int(dollars * 1_000_000)


def _cutoffs(value: float | Cutoffs | None, field: str) -> dict[Percentile, float]:
    cutoffs = value if isinstance(value, Cutoffs) else Cutoffs(p50=value)
    read: dict[Percentile, float] = {}
    for name in _PERCENTILES:
        number: float | None = getattr(cutoffs, name)
        if number is not None and not 0 <= number <= 1e12:
            path = f"provider.{field}.{name}" if isinstance(value, Cutoffs) else f"provider.{field}"
            raise InvalidRequest(f"{path} is {number}; it must be at least 0", path)
        if number is not None:
            read[name] = number
    return read


def _session(fields: RoutingFields, header: str) -> str:
    session, param = fields.session_id or header, "session_id"
    if not session and fields.prompt_cache_key:
        session, param = f"cache {fields.prompt_cache_key}", "prompt_cache_key"
    if len(session) > MAX_SESSION_CHARS:
        raise InvalidRequest(
            f"{param} has {len(session):,} characters; at most {MAX_SESSION_CHARS} are allowed",
            param,
        )
    return session
