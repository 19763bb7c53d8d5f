"""Opens the account of a request on any route: what the ledger is to know of it."""

from __future__ import annotations

import time

import msgspec

from outrider.dialects.openrouter import generation_id
from outrider.errors import PaymentRequired, RateLimited
from outrider.functions.rounds import MAX_ROUNDS
from outrider.gateway.prompt_size import (
    BYTES_PER_TOKEN,
    estimate_text_tokens,
    known_range,
)
from outrider.metering.meter import Account, Estimate, Meter
from outrider.metering.pricing import cost_of
from outrider.metering.records import ApiType, Counts, Opened, app_of, cut
from outrider.routing_types import Trace
from outrider.server.exchange import Exchange
from outrider.types import EmbeddingRequest, GenerationRequest

# What is reserved for an answer whose length the request leaves open.
OPEN_ANSWER_TOKENS = 2048

Wanted = GenerationRequest | EmbeddingRequest


def open_account(meter: Meter, exchange: Exchange, request: Wanted) -> Account:
    """Open the account of a request whose model is known; `exchange` closes it when it ends.

    Raises what the caller's budget refuses it with, which has a row too.
    """
    opened, estimate = opened_of(exchange, request), estimate_of(request, exchange.trace)
    try:
        exchange.account = meter.open(opened, exchange.caller, exchange.trace, estimate)
    except (PaymentRequired, RateLimited):
        exchange.account = meter.refused(opened, exchange.trace)
        raise
    return exchange.account


def open_repeatable(meter: Meter, exchange: Exchange, request: Wanted, row_id: str) -> Account:
    """Open the account of an item of a batch, or begin with it once more.

    A run after a restart has the same `row_id`, so an item has one row however often it ran.
    """
    if exchange.account is not None:
        exchange.account.restart()
        return exchange.account
    opened = msgspec.structs.replace(opened_of(exchange, request), id=row_id)
    estimate = estimate_of(request, exchange.trace)
    exchange.account = meter.open(
        opened, exchange.caller, exchange.trace, estimate, is_repeatable=True
    )
    return exchange.account


def estimate_of(request: Wanted, trace: Trace) -> Estimate:
    """Give about what a request may use; its price is one that no host of its model exceeds."""
    price = trace.price
    if isinstance(request, EmbeddingRequest):
        counts = Counts(prompt_tokens=estimate_text_tokens(request.texts))
        cost = cost_of(price, counts)
        counts.prompt_tokens *= BYTES_PER_TOKEN
        return Estimate(cost, counts.prompt_tokens // BYTES_PER_TOKEN, cost_of(price, counts))
    num_choices = max(1, len(request.prompts)) * request.sampling.n
    asked = (request.sampling.max_tokens or 0) * num_choices
    prompt_tokens, most_prompt_tokens = known_range(request, trace)
    most_asked = asked or OPEN_ANSWER_TOKENS * num_choices
    counts = Counts(prompt_tokens=prompt_tokens, completion_tokens=most_asked)
    num_images = _num_images(request)
    num_rounds = MAX_ROUNDS + 1 if request.functions else 1
    cost = cost_of(price, counts, num_images) * num_rounds
    counts.prompt_tokens = most_prompt_tokens
    most = cost_of(price, counts, num_images) * num_rounds
    most_tokens = (prompt_tokens + most_asked) * num_rounds
    return Estimate(cost, prompt_tokens + asked, most, most_tokens)


def opened_of(exchange: Exchange, request: Wanted) -> Opened:
    """Say what is known of a request when it begins."""
    caller = exchange.caller
    app_url, app_title = app_of(caller.app_url, caller.app_title)
    api_type: ApiType = "embeddings"
    num_images, is_streamed = 0, False
    if isinstance(request, GenerationRequest):
        api_type, is_streamed = "completions", request.stream
        num_images = _num_images(request)
    return Opened(
        id=generation_id(exchange.request_id, exchange.created_s),
        request_id=exchange.request_id,
        created_ms=int(time.time() * 1000),
        wire=exchange.wire,
        model=exchange.model,
        api_type=api_type,
        key=caller.key,
        app_url=app_url,
        app_title=app_title,
        app_categories=caller.app_categories if app_url else (),
        user_agent=cut(caller.user_agent),
        session=cut(exchange.session),
        num_images=num_images,
        is_streamed=is_streamed,
    )


def _num_images(request: GenerationRequest) -> int:
    return sum(len(message.images) for message in request.messages)
