"""Whether requests are traced, and what whoever traces them is told; `otel` does it.

Off unless it is asked for: then nothing of OpenTelemetry is imported, and a request pays one look
at None. Spans have names, counts and times, never prompts or answers.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from outrider.config import ServerConfig
from outrider.errors import ConfigError
from outrider.routing_types import Spans
from outrider.server.exchange import Exchange
from outrider.types import Usage

Operation = Literal["chat", "text_completion", "embeddings"]
_NEEDED = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")


class RequestSpan(Spans, Protocol):
    """One request while it runs."""

    def asked(self, operation: Operation, model: str = "") -> None:
        """Say what is wanted, as soon as that is read; without a name any model will do."""
        ...

    def end(self, exchange: Exchange, usage: Usage | None, reasons: Sequence[str]) -> None:
        """Say what came of it."""
        ...


class Tracing(Protocol):
    """Follows requests."""

    def begin(self, exchange: Exchange, headers: Mapping[str, str]) -> None:
        """Begin the span of a request, in the trace that its headers name."""
        ...

    def close(self) -> None:
        """Send what is left; takes as long as the collector does, in a thread."""
        ...


def check_tracing(config: ServerConfig) -> None:
    """Raise `ConfigError` if requests are to be traced and what that needs isn't installed."""
    if config.tracing != "off" and not all(map(_is_installed, _NEEDED)):
        raise ConfigError(
            f"tracing is {config.tracing!r}, which needs OpenTelemetry's SDK and exporter: "
            "pip install 'outrider[otel]'"
        )


def make_tracing(config: ServerConfig) -> Tracing | None:
    """Make what the settings ask for; raises `ConfigError`."""
    check_tracing(config)
    if config.tracing == "off":
        return None
    from outrider.server.otel import OtelTracing

    return OtelTracing()


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # of a package around it
        return False
