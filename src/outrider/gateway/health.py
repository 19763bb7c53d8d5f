"""How every endpoint is doing: whether to send it requests, and what it has shown so far.

Kept by name, so that it survives a reload of the settings; only a host that refused our key is
given another chance by one. A request that is refused for its own sake says nothing about a host.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from outrider.errors import (
    EngineError,
    EngineOverloaded,
    OutriderError,
    ProviderDenied,
    ProviderRateLimited,
    UnsupportedParameter,
)
from outrider.gateway.breaker import Breaker, State
from outrider.gateway.call_quality import Quality
from outrider.gateway.endpoint import Endpoint, Host
from outrider.gateway.windows import MinuteSamples, SlotCounts

logger = logging.getLogger(__name__)

OUTAGE_S = 30
STABLE_SHARE = 0.8  # of good results in the time above; below it others come first
COOLDOWN_S = 5.0  # after a 429 that doesn't say how long
MAX_COOLDOWN_S = 60.0
DAY_MINUTES, LONG_MINUTES, SHORT_MINUTES = 1440, 30, 5
CALL_MINUTES = 120


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """What an endpoint has shown; shares are 0 to 1, times are seconds."""

    state: State = "closed"
    uptime_5m: float | None = None  # good ÷ (good + failed); None: nobody asked
    uptime_30m: float | None = None
    uptime_1d: float | None = None
    latency_s: dict[str, float] = field(default_factory=dict)  # to a first event, 30 minutes
    throughput: dict[str, float] = field(default_factory=dict)  # tokens per second, 30 minutes


class HostHealth:
    """What is the same for all models of a host: its limits, and whether it takes our key."""

    def __init__(self) -> None:
        self.num_running = 0
        self.denial = ""  # why it doesn't take our key
        self._begun: deque[float] = deque()  # in the last minute, if their number is limited

    def wait_s(self, host: Host, now: float) -> float:
        """Give how long the host's limits keep requests away."""
        if self.denial:
            return math.inf
        if host.max_concurrent is not None and self.num_running >= host.max_concurrent:
            return 1.0
        if host.requests_per_minute is None:
            return 0.0
        while self._begun and self._begun[0] <= now - 60:
            self._begun.popleft()
        is_full = len(self._begun) >= host.requests_per_minute
        return max(0.0, self._begun[0] + 60 - now) if is_full else 0.0

    def begin(self, host: Host, now: float) -> None:
        """Note that a request is sent."""
        self.num_running += 1
        if host.requests_per_minute is not None:
            self._begun.append(now)

    def take_back(self, begun: float) -> None:
        """Note that the request of that time wasn't sent after all."""
        if begun in self._begun:
            self._begun.remove(begun)


class LastError(NamedTuple):
    """What failed last; its words may be a host's and are left out."""

    code: str
    status: int  # of the host's answer; 0: there was none
    at: float  # on the clock of `Health`


class EndpointHealth:
    """What is known of one endpoint."""

    def __init__(self) -> None:
        self.breaker = Breaker()
        self.denial = ""
        self.cool_until = 0.0
        self.last_error: LastError | None = None
        self.recent = SlotCounts(1, OUTAGE_S)
        self.minutes = SlotCounts(60, DAY_MINUTES)
        self.calls = SlotCounts(60, CALL_MINUTES)  # answers that call tools
        self.latencies_s = MinuteSamples(LONG_MINUTES)
        self.throughputs = MinuteSamples(LONG_MINUTES)

    def count(self, now: float, *, is_good: bool) -> None:
        """Count a result."""
        self.recent.add(now, is_good=is_good)
        self.minutes.add(now, is_good=is_good)

    def uptime(self, now: float, num_minutes: int) -> float | None:
        """Give the share of good results."""
        good, bad = self.minutes.sums(now, num_minutes)
        return good / (good + bad) if good + bad else None


class Health:
    """Knows all endpoints that were ever asked."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._hosts: dict[str, HostHealth] = {}
        self._endpoints: dict[tuple[str, str], EndpointHealth] = {}

    def wait_s(self, endpoint: Endpoint) -> float:
        """Give how long nobody should be sent there; 0: come; infinite: until a reload."""
        now, host, own = self.clock(), *self._of(endpoint)
        if own.denial:
            return math.inf
        return max(
            host.wait_s(endpoint.host, now),
            own.cool_until - now,
            own.breaker.wait_s(now),
            0.0,
        )

    def denial(self, endpoint: Endpoint) -> str:
        """Say why an endpoint doesn't take our key; empty if it does."""
        host, own = self._of(endpoint)
        return host.denial or own.denial

    def is_cooling(self, endpoint: Endpoint) -> bool:
        """Say whether an endpoint has asked for less, or is at its limits."""
        now, host, own = self.clock(), *self._of(endpoint)
        return own.cool_until > now or 0 < host.wait_s(endpoint.host, now) < math.inf

    def is_stable(self, endpoint: Endpoint) -> bool:
        """Say whether an endpoint had no significant outage in the last 30 seconds."""
        good, bad = self._of(endpoint)[1].recent.sums(self.clock(), OUTAGE_S)
        return good >= STABLE_SHARE * (good + bad)

    def state(self, endpoint: Endpoint) -> State:
        """Give the state of an endpoint's breaker."""
        return self._of(endpoint)[1].breaker.state

    def latency_s(self, endpoint: Endpoint) -> dict[str, float]:
        """Give percentiles of the time to the first event, of five minutes."""
        return self._of(endpoint)[1].latencies_s.percentiles(self.clock(), SHORT_MINUTES)

    def throughput(self, endpoint: Endpoint) -> dict[str, float]:
        """Give percentiles of the tokens per second, of five minutes; p90: nine in ten reach it."""
        samples = self._of(endpoint)[1].throughputs
        return samples.percentiles(self.clock(), SHORT_MINUTES, is_high_good=True)

    def call_quality(self, endpoint: Endpoint) -> Quality:
        """Give how well an endpoint calls tools."""
        now, own = self.clock(), self._of(endpoint)[1]
        good, wrong = own.calls.sums(now, CALL_MINUTES)
        num_answers = sum(own.minutes.sums(now, LONG_MINUTES))
        return Quality(num_answers, good, wrong, self.throughput(endpoint).get("p50", 0.0))

    def statistics(self, endpoint: Endpoint) -> Statistics:
        """Give what an endpoint has shown."""
        now, own = self.clock(), self._of(endpoint)[1]
        return Statistics(
            state=own.breaker.state,
            uptime_5m=own.uptime(now, SHORT_MINUTES),
            uptime_30m=own.uptime(now, LONG_MINUTES),
            uptime_1d=own.uptime(now, DAY_MINUTES),
            latency_s=own.latencies_s.percentiles(now, LONG_MINUTES),
            throughput=own.throughputs.percentiles(now, LONG_MINUTES, is_high_good=True),
        )

    def begin(self, endpoint: Endpoint) -> Try:
        """Note that a request is sent."""
        return Try(endpoint, *self._of(endpoint), self.clock)

    def of(self, endpoint: Endpoint) -> tuple[HostHealth, EndpointHealth]:
        """Give all that is known of a host and of one model there."""
        return self._of(endpoint)

    def reset(self, endpoint: Endpoint) -> None:
        """Try an endpoint and its host again, as if nothing had failed yet."""
        host, own = self._of(endpoint)
        host.denial = own.denial = ""
        own.cool_until = 0.0
        own.breaker.reset()
        own.recent = SlotCounts(1, OUTAGE_S)

    def forgive(self) -> None:
        """Try again who refused our key: the settings were read anew."""
        for host in self._hosts.values():
            host.denial = ""
        for endpoint in self._endpoints.values():
            endpoint.denial = ""

    def _of(self, endpoint: Endpoint) -> tuple[HostHealth, EndpointHealth]:
        host = self._hosts.get(endpoint.host.name)
        if host is None:
            host = self._hosts[endpoint.host.name] = HostHealth()
        own = self._endpoints.get(endpoint.key)
        if own is None:
            own = self._endpoints[endpoint.key] = EndpointHealth()
        return host, own


class Try:
    """One request to one endpoint; `succeed`, `fail` or `abandon` end it, once."""

    def __init__(
        self,
        endpoint: Endpoint,
        host: HostHealth,
        own: EndpointHealth,
        clock: Callable[[], float],
    ) -> None:
        self._endpoint = endpoint
        self._host = host
        self._own = own
        self._clock = clock
        self._begin = clock()
        self._epoch = own.breaker.begin(self._begin)
        host.begin(endpoint.host, self._begin)

    @property
    def duration_s(self) -> float:
        """Seconds since the request was sent."""
        return self._clock() - self._begin

    def answer(self, *, is_latency: bool = True) -> float:
        """Note the first event that a client can see; give the seconds that it took.

        They are the endpoint's latency unless the event came with all the others.
        """
        now = self._clock()
        self._own.breaker.release(self._epoch)
        if is_latency:
            self._own.latencies_s.add(now, now - self._begin)
        return now - self._begin

    def succeed(self, num_tokens: int, has_good_calls: bool | None = None) -> None:
        """Note a complete answer, and whether the calls that it ended with are good."""
        now = self._clock()
        if has_good_calls is not None:
            self._own.calls.add(now, is_good=has_good_calls)
        self._host.num_running -= 1
        self._own.count(now, is_good=True)
        self._own.breaker.succeed(self._epoch, now)
        if num_tokens and now > self._begin:
            self._own.throughputs.add(now, num_tokens / (now - self._begin))

    def abandon(self) -> None:
        """Note that the request ended for reasons of its own."""
        self._host.num_running -= 1
        self._own.breaker.release(self._epoch)

    def fail(self, error: OutriderError) -> None:
        """Note a failure, as far as it is the endpoint's."""
        if is_unsent(error):
            self._host.take_back(self._begin)
        if isinstance(error, EngineOverloaded) or not isinstance(error, EngineError):
            self.abandon()
            return
        now, own = self._clock(), self._own
        own.last_error = LastError(error.code, getattr(error, "upstream_status", 0), now)
        if isinstance(error, ProviderRateLimited):
            wait_s = COOLDOWN_S if error.retry_after_s is None else error.retry_after_s
            own.cool_until = max(own.cool_until, now + min(max(wait_s, 0.0), MAX_COOLDOWN_S))
            self.abandon()
            return
        self._host.num_running -= 1
        own.count(now, is_good=False)
        if not self._endpoint.host.is_local:  # its supervisor knows better when it is back
            own.breaker.fail(self._epoch, now)
        if isinstance(error, ProviderDenied):
            self._deny(error)

    def _deny(self, error: ProviderDenied) -> None:
        # A key that isn't valid or paid for is of no use for any model, a 403 may be of one.
        is_of_key = error.upstream_status in (401, 402)
        health: HostHealth | EndpointHealth = self._host if is_of_key else self._own
        if not health.denial:
            logger.error(
                "provider %s is not asked for %s until the settings are read again: %s",
                self._endpoint.host.name,
                "anything" if is_of_key else self._endpoint.model,
                error.message,
            )
        health.denial = error.message


def is_unsent(error: OutriderError) -> bool:
    """Say whether a host was spared a request that its wire can't carry."""
    return isinstance(error, UnsupportedParameter) and not error.was_sent
