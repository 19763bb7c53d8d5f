"""What tokens cost, in whole microusd."""

from __future__ import annotations

from outrider.metering.records import Counts
from outrider.routing_types import Price

MILLION = 1_000_000


def cost_of(price: Price, counts: Counts, num_images: int = 0) -> int:
    """Give what a host takes for one answer, rounded to the nearest microusd, halves up."""
    cached = price.prompt if price.cached is None else price.cached
    num_cached = min(counts.cached_tokens, counts.prompt_tokens)
    tokens = (
        (counts.prompt_tokens - num_cached) * price.prompt
        + num_cached * cached
        + counts.completion_tokens * price.completion
    )
    return (tokens + MILLION // 2) // MILLION + price.request + num_images * price.image
