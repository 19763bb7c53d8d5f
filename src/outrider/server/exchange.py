"""One request from arrival to end: its ids, times and counts, for the access log and the metrics.

Writes one line per request and nothing per token. Never sees prompts or answers.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

from outrider.metering.meter import Account
from outrider.routing_types import Caller, Trace
from outrider.server.metrics import Metrics
from outrider.types import Completed, Event, Finished, TextDelta, ToolCallDelta, Usage

if TYPE_CHECKING:
    from outrider.server.tracing import RequestSpan

logger = logging.getLogger("outrider.access")

KEY_DIGITS = 12  # of a key's hash in the log: enough to find it in `outrider keys list`


class Exchange:
    """Collects what is known of one request."""

    def __init__(self, wire: str, path: str, caller: Caller | None = None) -> None:
        self.wire = wire
        self.path = path
        self.request_id = new_request_id()
        self.caller = caller or Caller()
        self.trace = Trace()
        self.created_s = int(time.time())
        self.model = ""  # of the catalogue; empty until it is known
        self.status = 0
        self.error_code = ""
        self.session = ""  # what the caller calls the conversation
        self.account: Account | None = None  # once it is routed
        self.span: RequestSpan | None = None  # None: requests aren't traced
        self.begin_s = time.perf_counter()
        self.ttft_s: float | None = None
        self._usage: Usage | None = None
        self.reasons: list[str] = []

    def watcher(self, metrics: Metrics) -> TimesWatcher:
        """Give what takes the times and counts of the answer's events."""
        return TimesWatcher(self, metrics)

    def count(self, usage: Usage) -> None:
        """Take note of the tokens of an answer without events."""
        self._usage = usage

    @property
    def attempts(self) -> str:
        """Who was asked so far and with what status, as `x-outrider-attempts` shows it."""
        return ",".join(f"{each.provider}:{each.status}" for each in self.trace.attempts)

    def finish(self, metrics: Metrics) -> None:
        """Count the request, settle its account and write its line."""
        if self.account is not None:
            self.account.close(self.status, self.error_code)
        usage = self._usage
        metrics.providers.count(self.trace)
        metrics.requests.add((self.model or "unknown", self.wire, str(self.status)))
        if usage is not None:
            for kind, count in (
                ("prompt", usage.prompt_tokens),
                ("completion", usage.completion_tokens),
                ("cached", usage.cached_tokens),
            ):
                metrics.tokens.add((self.model, kind), count)
        if self.span is not None:
            self.span.end(self, usage, self.reasons)
        self._log()

    def _log(self) -> None:
        if not logger.isEnabledFor(logging.INFO):
            return
        usage = self._usage
        tokens = (
            "prompt_tokens=- completion_tokens=- cached_tokens=-"
            if usage is None
            else f"prompt_tokens={usage.prompt_tokens} completion_tokens={usage.completion_tokens} "
            f"cached_tokens={usage.cached_tokens}"
        )
        ttft_s = "-" if self.ttft_s is None else f"{self.ttft_s:.3f}"
        line = (
            f"request_id={self.request_id} wire={self.wire} path={printable(self.path)} "
            f"status={self.status} model={self.model or '-'} {tokens} ttft_s={ttft_s} "
            f"e2e_s={time.perf_counter() - self.begin_s:.3f} "
            f"finish_reason={','.join(self.reasons) or '-'} error={self.error_code or '-'} "
            f"attempts={self.attempts or '-'} key={self.caller.key[:KEY_DIGITS] or '-'}"
        )
        # As `logger.info` does, which looks for the line of code that calls it each time.
        logger.handle(logging.LogRecord(logger.name, logging.INFO, "", 0, line, None, None))


class TimesWatcher:
    """Takes the times of one answer's events; see `Watcher`."""

    def __init__(self, exchange: Exchange, metrics: Metrics) -> None:
        self._exchange = exchange
        self._ttft_s = metrics.ttft_s.of(exchange.model)
        self._itl_s = metrics.itl_s.of(exchange.model)
        self._last: dict[int, float] = {}  # of each choice

    def take(self, event: Event) -> Event:
        """Note an event."""
        exchange = self._exchange
        match event:
            case TextDelta() | ToolCallDelta():
                now = time.perf_counter()
                last = self._last.get(event.index)
                if last is not None:
                    self._itl_s.observe(now - last)
                elif exchange.ttft_s is None:
                    exchange.ttft_s = now - exchange.begin_s
                    self._ttft_s.observe(exchange.ttft_s)
                self._last[event.index] = now
            case Finished():
                exchange.reasons.append(event.finish_reason)
            case Completed():
                exchange.count(event.usage)
        return event

    def end(self, *, is_whole: bool) -> None:
        """Do nothing: the exchange is finished by who began it."""


def new_request_id() -> str:
    """Make the id that headers, the log and the engine know a request by: a UUID of version 4."""
    digits = _RANDOM.take(16).hex()
    variant = "89ab"[int(digits[16], 16) % 4]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


class _RandomBytes:
    """Bytes of the system's random source, many with one call."""

    def __init__(self) -> None:
        self._left = b""

    def take(self, num_bytes: int) -> bytes:
        """Give bytes that nobody got before."""
        if len(self._left) < num_bytes:
            self._left = os.urandom(4096)
        taken, self._left = self._left[:num_bytes], self._left[num_bytes:]
        return taken


_RANDOM = _RandomBytes()


def printable(path: str) -> str:
    """Give the beginning of a path as it can stand in a log: on one line, without control codes."""
    path = path[:200].replace(" ", "?")
    return path if path.isprintable() else "".join(c if c.isprintable() else "?" for c in path)
