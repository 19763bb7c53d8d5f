"""Counts what requests use: opened when a request is routed, settled exactly once when it ends.

Nothing else counts tokens or money. What is handed on is counted before it is handed on, in the
journal too; the usage that a host states at the end replaces what was counted until then.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import NamedTuple, Protocol

import msgspec

from outrider.metering.answer_count import AnswerCount
from outrider.metering.journal import Slot
from outrider.metering.pricing import cost_of
from outrider.metering.records import MAX_ATTEMPTS, Closed, Counts, Opened, Row, cut
from outrider.routing_types import Attempt, Caller, Price, Trace
from outrider.types import (
    Completed,
    Embeddings,
    Event,
    Finished,
    GenerationRequest,
    Started,
    TextDelta,
    ToolCallDelta,
)

MAX_COUNT = 2**40  # what a hostile host may claim; costs and sums stay in 64 bits
MAX_ROWS_BEFORE_START = 10_000
STATUS_CANCELLED = 499  # the caller left: nginx's word for it


class Ledger(Protocol):
    """Where rows go: see `writer.LedgerWriter`."""

    def take(self, opened: Opened) -> Slot | None:
        """Begin a slot for a request."""
        ...

    def add(self, slot: Slot | None, row: Row) -> None:
        """Add a request that has ended."""
        ...


class Reservation(Protocol):
    """What was set aside for a request."""

    def settle(self, cost_microusd: int, tokens: int) -> None:
        """Take what it did cost, and free the rest."""
        ...


class Estimate(NamedTuple):
    """What a request may use, before it is sent."""

    cost_microusd: int = 0
    tokens: int = 0
    most_microusd: int = 0  # if its prompt has as many tokens as it can have
    most_tokens: int = 0  # with an answer whose length it leaves open


NOTHING = Estimate()


class Budgets(Protocol):
    """What callers may spend."""

    def reserve(self, caller: Caller, estimate: Estimate) -> Reservation:
        """Set aside what a request may cost; raises `PaymentRequired` or `RateLimited`."""
        ...


class Generator(Protocol):
    """What answers a request."""

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """Stream the answer."""
        ...


class Meter:
    """Opens accounts; rows are kept here until there is a ledger, and lost without one."""

    def __init__(self, budgets: Budgets | None = None) -> None:
        self.budgets = budgets
        self._ledger: Ledger | None = None
        self._early: deque[Row] = deque(maxlen=MAX_ROWS_BEFORE_START)

    def start(self, ledger: Ledger) -> None:
        """Use a ledger; it gets what has ended before there was one."""
        self._ledger = ledger
        while self._early:
            self._add(None, self._early.popleft())

    def stop(self) -> None:
        """Use no ledger any more."""
        self._ledger = None

    def open(
        self,
        opened: Opened,
        caller: Caller,
        trace: Trace,
        estimate: Estimate = NOTHING,
        is_repeatable: bool = False,
    ) -> Account:
        """Open the account of a request; raises what the caller's budget refuses it with.

        A repeatable one leaves no row if the process is killed: it is begun again.
        """
        reservation = None
        if self.budgets is not None:
            reservation = self.budgets.reserve(caller, estimate)
        slot = self._ledger.take(opened) if self._ledger and not is_repeatable else None
        return Account(opened, trace, slot, reservation, self._add)

    def refused(self, opened: Opened, trace: Trace) -> Account:
        """Open the account of a request that its caller's budget or rate refuses."""
        return Account(opened, trace, None, None, self._add)

    def _add(self, slot: Slot | None, row: Row) -> None:
        ledger = self._ledger
        if ledger is None:
            if slot is None:  # else it waits in its journal for the next start
                self._early.append(row)
            return
        if slot is None and (slot := ledger.take(row.opened)) is not None:
            slot.count(row.counts)
            slot.close(row.closed)
        ledger.add(slot, row)


class Account:
    """What one request uses; `close` it in any case."""

    def __init__(
        self,
        opened: Opened,
        trace: Trace,
        slot: Slot | None,
        reservation: Reservation | None,
        add: Callable[[Slot | None, Row], None],
    ) -> None:
        self.counts = Counts()
        self._opened = opened
        self._trace = trace
        self._slot = slot
        self._reservation = reservation
        self._add = add
        self._begin_s = time.perf_counter()
        self._first_token_ms: int | None = None
        self._started = Started("")
        self._price: Price | None = None
        self._finish_reason = self._native_reason = ""
        self._has_tool_calls = self._is_estimated = self._is_complete = self._is_closed = False

    @property
    def id(self) -> str:
        """That of the ledger's row."""
        return self._opened.id

    def metered(self, generator: Generator) -> Generator:
        """Give what answers as the generator does and is counted, however often it is asked."""
        return _Metered(generator, self)

    async def watch(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
        """Pass on the events of one answer, counted, with what they cost."""
        answer = self.answer()
        try:
            async for event in events:
                yield answer.take(event)
        finally:
            answer.end(is_whole=self._is_complete)
            await events.aclose()

    def answer(self) -> AnswerMeter:
        """Begin to count an answer, for who passes its events on and watches them in other ways."""
        self._is_complete = False
        self._finish_reason = self._native_reason = ""
        return AnswerMeter(self)

    def count_vectors(self, embeddings: Embeddings) -> int:
        """Count an answer without events; gives what it costs in microusd."""
        self._started = Started(embeddings.model, "", embeddings.upstream_id)
        self._is_estimated |= embeddings.is_estimated
        counted = self._complete(Completed(embeddings.usage), self.counts)
        return counted.cost_microusd

    def restart(self) -> None:
        """Forget what was counted: the request is begun again, and nobody got anything of it."""
        self.counts = Counts()
        self._started = Started("")
        self._price = None
        self._has_tool_calls = self._is_estimated = False

    def abandon(self) -> None:
        """Write nothing and free what was reserved, if it isn't closed yet."""
        if not self._is_closed:
            self._is_closed = True
            if self._reservation is not None:
                self._reservation.settle(0, 0)

    def close(self, status: int, error_code: str = "") -> None:
        """Settle: write the row and free what was reserved; only the first call counts."""
        if self._is_closed:
            return
        self._is_closed = True
        closed = self._closed(status, error_code)
        if error_code and not self._opened.is_streamed:
            self.counts.completion_tokens = 0  # whatever there was, nobody got it
        if _is_insured(self.counts, closed):
            self.counts.cost_microusd = 0
        if self._slot is not None:
            self._slot.count(self.counts)
            self._slot.close(closed)
        self._add(self._slot, Row(self._opened, self.counts, closed))
        if self._reservation is not None:
            tokens = self.counts.prompt_tokens + self.counts.completion_tokens
            self._reservation.settle(self.counts.cost_microusd, tokens)

    def _start(self, started: Started, counting: AnswerCount) -> None:
        """Take note of who answers; what a request of before its end costs nobody is charged."""
        self._started = started
        self._price = self._trace.price
        counting.prompt_tokens = started.prompt_tokens or self._trace.prompt_tokens_estimate
        counting.is_prompt_estimated = not started.prompt_tokens
        # A host that says its tokens at the end gives a whole answer at once, with its end.
        is_at_once = not self._opened.is_streamed and not started.prompt_tokens
        if self._slot is not None and not is_at_once:
            counts = msgspec.structs.replace(self.counts)
            counts.prompt_tokens += counting.prompt_tokens
            self._slot.count(counts)
            self._slot.note(self._closed(500, "server_killed", is_estimated=True))

    def _complete(self, event: Completed, before: Counts) -> Completed:
        """Take a host's word for the tokens of an answer, and say what they cost."""
        self._price = self._trace.price
        usage = event.usage
        used = Counts(
            prompt_tokens=_bounded(usage.prompt_tokens),
            completion_tokens=_bounded(usage.completion_tokens),
            cached_tokens=_bounded(usage.cached_tokens),
        )
        used.cost_microusd = cost_of(self._price, used, self._opened.num_images)
        self._set(_sum(before, used))
        self._is_complete = True
        return msgspec.structs.replace(event, cost_microusd=used.cost_microusd)

    def _cut(self, before: Counts, counting: AnswerCount) -> None:
        """Count what there was of an answer that was cut; it has no usage."""
        if not counting.is_begun:
            return
        used = Counts(
            prompt_tokens=_bounded(counting.prompt_tokens),
            completion_tokens=counting.total - before.completion_tokens,
        )
        used.cost_microusd = cost_of(self._trace.price, used, self._opened.num_images)
        self._is_estimated |= counting.is_estimated
        self._set(_sum(before, used))

    def _set(self, counts: Counts) -> None:
        self.counts = counts
        if self._slot is not None:
            self._slot.count(counts)

    def _closed(self, status: int, error_code: str, *, is_estimated: bool = False) -> Closed:
        trace, started = self._trace, self._started
        return Closed(
            status=status,
            duration_ms=self._elapsed_ms(),
            model=trace.model,
            provider=trace.provider,
            price=self._price,
            attempts=tuple(map(_printable, trace.attempts[-MAX_ATTEMPTS:])),
            upstream_id=cut(started.upstream_id),
            error_code=error_code,
            finish_reason="" if error_code else self._finish_reason,  # a failure is no "stop"
            native_reason=cut(self._native_reason or self._finish_reason, 50),
            first_token_ms=self._first_token_ms,
            has_tool_calls=self._has_tool_calls,
            is_cancelled=status == STATUS_CANCELLED,
            is_estimated=is_estimated or self._is_estimated,
        )

    def _elapsed_ms(self) -> int:
        return round((time.perf_counter() - self._begin_s) * 1000)


class AnswerMeter:
    """Counts the events of one answer: `take` each before it is handed on, then `end`."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._before = account.counts
        self._counting = AnswerCount(self._before.completion_tokens)
        # Of a whole answer nothing is handed on before its end.
        self._slot = account._slot if account._opened.is_streamed else None

    def take(self, event: Event) -> Event:
        """Count an event and give it back; the last one says what the answer costs."""
        account, counting = self._account, self._counting
        match event:
            case TextDelta() | ToolCallDelta():
                if account._first_token_ms is None:
                    account._first_token_ms = account._elapsed_ms()
                counting.add(event)
                if self._slot is not None:
                    self._slot.count_completion(counting.total)
            case Started():
                account._start(event, counting)
            case Finished():
                counting.add(event)
                account._finish_reason = event.finish_reason
                account._native_reason = event.native_reason
            case Completed():
                event = account._complete(counting.stated(event), self._before)
                account._is_estimated |= counting.is_unstated
        return event

    def end(self, *, is_whole: bool) -> None:
        """Take what there was of an answer that was cut: then its usage didn't come."""
        del is_whole
        account, counting = self._account, self._counting
        if not account._is_complete:
            account._cut(self._before, counting)
        account._has_tool_calls |= counting.has_tool_calls


class _Metered:
    def __init__(self, generator: Generator, account: Account) -> None:
        self._generator = generator
        self._account = account

    def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        return self._account.watch(self._generator.generate(request))


def _is_insured(counts: Counts, closed: Closed) -> bool:
    """Say whether a request costs nothing: it failed, or ended with nothing at all."""
    if closed.is_cancelled:
        return counts.completion_tokens == 0
    is_blank = counts.completion_tokens == 0 and not closed.finish_reason
    return bool(closed.error_code) or (is_blank and counts.prompt_tokens == 0)


def _bounded(count: int) -> int:
    return min(max(count, 0), MAX_COUNT)


def _sum(one: Counts, other: Counts) -> Counts:
    return Counts(
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        cached_tokens=one.cached_tokens + other.cached_tokens,
        cost_microusd=one.cost_microusd + other.cost_microusd,
    )


def _printable(attempt: Attempt) -> Attempt:
    upstream_id = cut(attempt.upstream_id, 100)
    return msgspec.structs.replace(attempt, upstream_id=upstream_id)
