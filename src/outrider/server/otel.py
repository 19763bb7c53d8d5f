"""Spans of requests and of their attempts, sent to a collector by OTLP over HTTP.

Names follow OpenTelemetry's conventions for generative AI (semantic-conventions-genai, November
2026, in development). Nothing of a prompt or an answer is in them. Imported only if requests are
traced; the SDK reads OTEL_* variables, samples, and sends from a thread of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from outrider import __version__
from outrider.routing_types import Attempt
from outrider.server.exchange import Exchange
from outrider.server.tracing import Operation
from outrider.types import Usage

OPERATION, PROVIDER = "gen_ai.operation.name", "gen_ai.provider.name"
REQUEST_MODEL, RESPONSE_MODEL = "gen_ai.request.model", "gen_ai.response.model"
RESPONSE_ID, FINISH_REASONS = "gen_ai.response.id", "gen_ai.response.finish_reasons"
INPUT_TOKENS, OUTPUT_TOKENS = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
ERROR_TYPE = "error.type"
MAX_MODEL_CHARS = 200
OWN_PROVIDER = "outrider"  # this server's own engine
_PORTS = {"http": 80, "https": 443}
_PROPAGATOR = TraceContextTextMapPropagator()


class OtelTracing:
    """See `Tracing`."""

    def __init__(self) -> None:
        named = OTELResourceDetector().detect().attributes
        known = {"service.name": "outrider", "service.version": __version__, **named}
        self._provider = TracerProvider(resource=Resource.create(known))
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("outrider", __version__)

    def begin(self, exchange: Exchange, headers: Mapping[str, str]) -> None:
        """Begin the span of a request, in the trace that its headers name."""
        parent = {name: headers[name] for name in _PROPAGATOR.fields if name in headers}
        span = self._tracer.start_span(
            exchange.wire,
            _PROPAGATOR.extract(parent),
            SpanKind.SERVER,
            {"http.request.method": "POST", "url.path": exchange.path},
        )
        exchange.span = exchange.trace.spans = OtelRequest(self._tracer, span)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


class OtelRequest:
    """See `RequestSpan`."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span
        self._context = set_span_in_context(span)
        self._operation: Operation = "chat"

    def asked(self, operation: Operation, model: str = "") -> None:
        """Say what is wanted."""
        self._operation = operation
        model = model[:MAX_MODEL_CHARS]
        self._span.update_name(f"{operation} {model}".rstrip())
        self._span.set_attribute(OPERATION, operation)
        if model:
            self._span.set_attribute(REQUEST_MODEL, model)

    def attempt(self, provider: str, model: str, base_url: str) -> OtelAttempt:
        """Begin a try."""
        attributes: dict[str, str | int] = {
            OPERATION: self._operation,
            PROVIDER: OWN_PROVIDER if not base_url else provider,
            REQUEST_MODEL: model,
        }
        if base_url:
            parts = urlsplit(base_url)
            attributes["server.address"] = parts.hostname or ""
            attributes["server.port"] = parts.port or _PORTS[parts.scheme]
        name = f"{self._operation} {model}"
        kind = SpanKind.CLIENT if base_url else SpanKind.INTERNAL
        return OtelAttempt(self._tracer.start_span(name, self._context, kind, attributes))

    def end(self, exchange: Exchange, usage: Usage | None, reasons: Sequence[str]) -> None:
        """Say what came of it."""
        span, trace = self._span, exchange.trace
        span.set_attribute(RESPONSE_ID, exchange.request_id)
        span.set_attribute("http.response.status_code", exchange.status)
        answered = [one for one in trace.attempts if one.status == 200]
        if answered:
            span.set_attribute(PROVIDER, answered[-1].provider)
            span.set_attribute(RESPONSE_MODEL, answered[-1].model)
        tokens = None if usage is None else (usage.prompt_tokens, usage.completion_tokens)
        # Of a server's span the caller's own mistakes are no errors.
        is_error = bool(exchange.error_code) and not 400 <= exchange.status < 500
        _end(span, exchange.error_code, tokens, reasons, is_error=is_error)


class OtelAttempt:
    """See `AttemptSpan`."""

    def __init__(self, span: Span) -> None:
        self.headers: dict[str, str] = {}
        self._span = span
        _PROPAGATOR.inject(self.headers, set_span_in_context(span))

    def end(self, attempt: Attempt, tokens: tuple[int, int] | None, reasons: Sequence[str]) -> None:
        """Say what came of it."""
        span = self._span
        if attempt.upstream_id:
            span.set_attribute(RESPONSE_ID, attempt.upstream_id)
        if attempt.status == 200:
            span.set_attribute(RESPONSE_MODEL, attempt.model)
        if attempt.status:
            span.set_attribute("http.response.status_code", attempt.status)
        _end(span, attempt.error_code, tokens, reasons, is_error=bool(attempt.error_code))


def _end(
    span: Span,
    error_code: str,
    tokens: tuple[int, int] | None,
    reasons: Sequence[str],
    *,
    is_error: bool,
) -> None:
    if tokens is not None:
        span.set_attributes({INPUT_TOKENS: tokens[0], OUTPUT_TOKENS: tokens[1]})
    if reasons:
        span.set_attribute(FINISH_REASONS, list(reasons))
    if error_code:
        span.set_attribute(ERROR_TYPE, error_code)
    if is_error:
        span.set_status(Status(StatusCode.ERROR))
    span.end()
