"""The `[providers.NAME]` tables of outrider.toml as typed structs.

Every value is checked here, before anything is built from it: an unknown key is an error with the
nearest known one, a wrong value one with its path. Secrets come from the environment alone and show
themselves to nobody: not in a repr, not in an error, not in a log.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import Any, Final, Literal, TypeVar, get_args
from urllib.parse import urlsplit

import msgspec

from outrider.dialects.capabilities import (
    CAPABILITIES,
    DEFAULT_CAPABILITIES,
    EMBEDDINGS,
    Capability,
    Kind,
)
from outrider.errors import ConfigError
from outrider.routing_types import Price

T = TypeVar("T")
Table = Mapping[str, Any]

Quantization = Literal[
    "int4", "int8", "fp4", "mxfp4", "nvfp4", "fp6", "fp8", "mxfp8", "fp16", "bf16", "fp32",
    "unknown",
]  # fmt: skip
Region = Literal["eu", "us"]

LOCAL: Final = "local"
MODELS = "models"
MAX_PRICE = 1_000_000  # dollars
DEFAULT_URLS: dict[Kind, str] = {
    "openrouter": "https://openrouter.ai/api/v1",
    "dataoorts": "https://cloud.dataoorts.com/api/v1",
}
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}(/[a-z0-9][a-z0-9._-]{0,62})?")
_COUNTRY = re.compile(r"[A-Z]{2}")
_HEADER_TEXT = re.compile(r"[!-~]+")


class Secret:
    """A text from the environment that only `reveal` gives out."""

    __slots__ = ("_value", "variable")

    def __init__(self, variable: str, value: str) -> None:
        self.variable = variable
        self._value = value

    def reveal(self) -> str:
        """Give the text; raises `ConfigError` if the variable isn't set or can't be sent."""
        if not self._value:
            raise ConfigError(
                f"the environment variable {self.variable} isn't set; outrider.toml names it as "
                "api_key_env"
            )
        if not _HEADER_TEXT.fullmatch(self._value):
            raise ConfigError(
                f"the environment variable {self.variable} has spaces, line breaks or other "
                "characters that a key can't have; set it to the key alone"
            )
        return self._value

    def __repr__(self) -> str:
        return f"Secret({self.variable!r}, '…')"


class Timeouts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seconds that a host may take to connect, to begin, between events, and in all."""

    connect_s: float = 5
    first_event_s: float = 120
    idle_s: float = 60
    total_s: float = 900


class ModelTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model of a host; prices are in dollars as they are written."""

    upstream: str = ""
    price: PriceTable | None = None
    context_length: int | None = None
    max_output: int | None = None
    capabilities: tuple[str, ...] | None = None
    quantization: Quantization = "unknown"
    aliases: tuple[str, ...] = ()
    tokenizer: str = ""


class PriceTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dollars: per million tokens, per request and per image."""

    prompt: float = 0
    completion: float = 0
    cached: float | None = None
    request: float = 0
    image: float = 0


class ProviderTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One host as it is written, without its models."""

    kind: Kind
    base_url: str = ""
    api_key_env: str = ""
    display_name: str = ""
    collects_data: bool = False
    zero_retention: bool | None = None  # None: the local engine keeps nothing, others may
    region: Region | None = None
    max_concurrent: int | None = None
    requests_per_minute: int | None = None
    timeouts: Timeouts = Timeouts()
    privacy_policy_url: str | None = None
    terms_of_service_url: str | None = None
    status_page_url: str | None = None
    headquarters: str | None = None
    datacenters: tuple[str, ...] = ()


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One model of a host, checked."""

    name: str  # what clients name
    upstream: str  # what the host calls it
    price: Price = Price()
    context_length: int | None = None  # tokens of prompt and answer; None: not known
    max_output: int | None = None  # tokens of an answer
    capabilities: frozenset[Capability] = frozenset()
    quantization: Quantization = "unknown"
    aliases: tuple[str, ...] = ()
    tokenizer: str = ""  # name of the pulled model that counts prompts; empty: they are estimated

    @property
    def makes_embeddings(self) -> bool:
        """Whether it makes vectors of texts, and no text."""
        return EMBEDDINGS in self.capabilities


class ProviderConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One host, checked."""

    name: str
    table: ProviderTable
    models: tuple[ModelConfig, ...]
    api_key: Secret | None = None

    @property
    def display_name(self) -> str:
        """The name that people read."""
        return self.table.display_name or ("Outrider" if self.name == LOCAL else self.name)


def read_providers(tables: object, env: Mapping[str, str]) -> tuple[ProviderConfig, ...]:
    """Read the `providers` table of a file; raises `ConfigError` with the path of what is wrong."""
    providers = tuple(
        _provider(name, table, env) for name, table in _subtables(tables, "providers").items()
    )
    _check_aliases(providers)
    _check_purposes(providers)
    return providers


def check_secrets(providers: Iterable[ProviderConfig]) -> None:
    """Refuse keys that aren't there, with the provider that wants them."""
    for provider in providers:
        if provider.api_key is not None:
            try:
                provider.api_key.reveal()
            except ConfigError as error:
                raise ConfigError(f"providers.{provider.name}: {error.message}") from None


def _provider(name: str, table: Table, env: Mapping[str, str]) -> ProviderConfig:
    path = f"providers.{shown_key(name)}"
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{path}: the name of a provider has small letters, digits, '.', '_' and '-', and at "
            "most one '/'"
        )
    models = _subtables(table.get(MODELS, {}), f"{path}.{MODELS}")
    own = {key: value for key, value in table.items() if key != MODELS}
    read = _convert(own, ProviderTable, path, [MODELS])
    if (name == LOCAL) != (read.kind == LOCAL):
        raise ConfigError(f"{path}.kind is {read.kind!r}; the provider named local is of that kind")
    if read.kind == LOCAL:
        _check_local(read, path)
    else:
        read = msgspec.structs.replace(read, base_url=_base_url(read, path))
        if not models:
            raise ConfigError(f"{path} has no models; add a table {path}.models.NAME")
    _check_numbers(read, path)
    _check_countries(read, path)
    secret = Secret(read.api_key_env, env.get(read.api_key_env, "")) if read.api_key_env else None
    return ProviderConfig(
        name=name,
        table=read,
        models=tuple(_model(key, value, read.kind, path) for key, value in models.items()),
        api_key=secret,
    )


def _check_local(table: ProviderTable, path: str) -> None:
    """Refuse what only a remote host has."""
    defaults = ProviderTable(kind=LOCAL)
    for name in ("base_url", "api_key_env", "timeouts", "max_concurrent", "requests_per_minute"):
        if getattr(table, name) != getattr(defaults, name):
            raise ConfigError(f"{path}.{name}: the local engine has none; leave it out")


def _base_url(table: ProviderTable, path: str) -> str:
    """Give the address of a host without a slash at its end."""
    url = table.base_url or DEFAULT_URLS.get(table.kind, "")
    if not url:
        raise ConfigError(f"{path}.base_url is missing; a host of kind {table.kind!r} needs one")
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good:
        raise ConfigError(f"{path}.base_url must be an http:// or https:// address with a host")
    if "@" in parts.netloc:
        raise ConfigError(f"{path}.base_url holds a user or password; use api_key_env for a key")
    if parts.query or parts.fragment or re.search(r"[^!-~]", url):
        raise ConfigError(f"{path}.base_url has a query, a fragment, spaces or special characters")
    return url.rstrip("/")


def _check_numbers(table: ProviderTable, path: str) -> None:
    for name in ("max_concurrent", "requests_per_minute"):
        value = getattr(table, name)
        if value is not None and not 1 <= value <= 10**9:
            raise ConfigError(f"{path}.{name} is {value}; it must be a whole number of at least 1")
    for name, value in msgspec.structs.asdict(table.timeouts).items():
        if not (math.isfinite(value) and 0 < value <= 86_400):
            raise ConfigError(
                f"{path}.timeouts.{name} is {value}; it must be more than 0 and at most 86400"
            )


def _check_countries(table: ProviderTable, path: str) -> None:
    named = [("headquarters", table.headquarters)] if table.headquarters is not None else []
    for name, country in [*named, *(("datacenters", code) for code in table.datacenters)]:
        if not _COUNTRY.fullmatch(country):
            raise ConfigError(f"{path}.{name}: {country!r} isn't a country code such as 'US'")


def _model(name: str, table: Table, kind: Kind, provider: str) -> ModelConfig:
    path = f"{provider}.models.{shown_key(name)}"
    if not name.strip() or not name.isprintable() or len(name) > 200:
        raise ConfigError(f"{path}: the name of a model is printable and has 1 to 200 characters")
    read = _convert(table, ModelTable, path)
    for field in ("context_length", "max_output"):
        value = getattr(read, field)
        if value is not None and not 1 <= value <= 2**31 - 1:
            raise ConfigError(f"{path}.{field} is {value}; it must be a whole number of tokens")
    if EMBEDDINGS in (read.capabilities or ()):
        _check_embedding_model(read, path)
    return ModelConfig(
        name=name,
        upstream=read.upstream or name,
        price=_price(read.price or PriceTable(), f"{path}.price"),
        context_length=read.context_length,
        max_output=read.max_output,
        capabilities=_capabilities(read.capabilities, kind, f"{path}.capabilities"),
        quantization=read.quantization,
        aliases=read.aliases,
        tokenizer=read.tokenizer,
    )


def _check_embedding_model(table: ModelTable, path: str) -> None:
    """Refuse what only a model that writes text has."""
    price = table.price or PriceTable()
    for name, is_given in (
        ("capabilities", table.capabilities != (EMBEDDINGS,)),
        ("max_output", table.max_output is not None),
        ("tokenizer", table.tokenizer),
        ("price.completion", price.completion),
        ("price.cached", price.cached is not None),
        ("price.image", price.image),
    ):
        if is_given:
            raise ConfigError(
                f"{path}.{name}: a model with the capability {EMBEDDINGS!r} makes vectors of texts "
                "and nothing else; leave the rest out"
            )


def _price(table: PriceTable, path: str) -> Price:
    values = {
        name: _microusd(value, f"{path}.{name}")
        for name, value in msgspec.structs.asdict(table).items()
        if value is not None
    }
    return Price(**values)


def _microusd(dollars: float, path: str) -> int:
    """Give a price in millionths of a dollar; refuses what isn't a whole number of them."""
    if not (math.isfinite(dollars) and 0 <= dollars <= MAX_PRICE):
        raise ConfigError(f"{path} is {dollars}; it must be in dollars, from 0 to {MAX_PRICE:,}")
    exact = Decimal(repr(dollars)) * 1_000_000
    if exact != int(exact):
        raise ConfigError(f"{path} is {dollars}; it must have at most 6 digits after the point")
    return int(exact)


def _capabilities(names: tuple[str, ...] | None, kind: Kind, path: str) -> frozenset[Capability]:
    if names is None:
        return DEFAULT_CAPABILITIES[kind]
    known = {name: name for name in get_args(Capability)}
    for name in names:
        if name not in known:
            raise ConfigError(f"{path}: unknown capability {name!r}{_nearest(name, known)}")
        if name not in CAPABILITIES[kind]:
            raise ConfigError(f"{path}: the wire of kind {kind!r} can't carry {name!r}")
    return frozenset(known[name] for name in names)


def _check_aliases(providers: Iterable[ProviderConfig]) -> None:
    """Refuse an alias that is another model's name or alias."""
    listed = [(provider, model) for provider in providers for model in provider.models]
    owners = {model.name: model.name for _, model in listed}
    for provider, model in listed:
        for alias in model.aliases:
            if owners.setdefault(alias, model.name) != model.name:
                raise ConfigError(
                    f"providers.{shown_key(provider.name)}.models.{shown_key(model.name)}.aliases:"
                    f" {alias!r} stands for {owners[alias]} already"
                )


def _check_purposes(providers: Iterable[ProviderConfig]) -> None:
    """Refuse a name under which one host makes embeddings and another one text."""
    purposes: dict[str, bool] = {}
    for provider in providers:
        for model in provider.models:
            if purposes.setdefault(model.name, model.makes_embeddings) != model.makes_embeddings:
                raise ConfigError(
                    f"providers.{shown_key(provider.name)}.models.{shown_key(model.name)}: another "
                    "provider has a model of this name that makes "
                    f"{'text' if model.makes_embeddings else 'embeddings'}; choose another name"
                )


def _subtables(value: object, path: str) -> dict[str, Table]:
    if not isinstance(value, dict) or not all(isinstance(v, dict) for v in value.values()):
        raise ConfigError(f"{path} must hold tables, as in [{path}.NAME]")
    return value


def _convert(table: Table, kind: type[T], path: str, others: Collection[str] = ()) -> T:
    """Convert a table; its unknown keys, and those of tables in it, are refused by name."""
    _check_keys(table, kind, path, others)
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `$")
        message = message.replace("`", "'").replace("Object missing required", "is missing the")
        raise ConfigError(
            f"{path}{where.rstrip('`')}: {message[:1].lower()}{message[1:]}"
        ) from None


_INNER: dict[str, type[msgspec.Struct]] = {"timeouts": Timeouts, "price": PriceTable}


def _check_keys(table: Table, kind: Any, path: str, others: Collection[str] = ()) -> None:  # noqa: ANN401
    known = [*kind.__struct_fields__, *others]
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f"{path}: unknown key {key}{_nearest(key, known)}")
        if key in _INNER and isinstance(value, dict):
            _check_keys(value, _INNER[key], f"{path}.{key}")


def shown_key(name: str) -> str:
    """Write a name as a part of a path in TOML; a long or odd one is shortened."""
    if re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name):
        return name
    return '"' + "".join(c if c.isprintable() else "?" for c in name[:100]) + '"'


def _nearest(name: str, known: Iterable[str]) -> str:
    """Give "; did you mean …?" for the known name most like `name`, or what there is."""
    listed = list(known)
    matches = difflib.get_close_matches(name, listed, n=1, cutoff=0.6)
    return f"; did you mean {matches[0]}?" if matches else f"; known are {', '.join(listed)}"
