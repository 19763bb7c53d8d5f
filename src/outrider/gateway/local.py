"""The provider named local: a model in an engine process on this machine.

The only place that knows both worlds: requests and events on this side, token ids and engine
frames on the other. It formats conversations, tokenises and checks lengths; the engine does the
rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from outrider.engine.client import EngineClient
from outrider.engine.protocol import SequenceOutput, Stats, Submit
from outrider.errors import ContextLengthExceeded, EngineOverloaded
from outrider.text.chat import ChatFormat
from outrider.text.tokenizer import Tokenizer
from outrider.types import (
    Completed,
    Event,
    Finished,
    GenerationRequest,
    SamplingParams,
    Started,
    TextDelta,
    Usage,
)

# Longer texts are tokenised off the event loop: about 10 ms of work.
LONG_TEXT_CHARS = 20_000


class LocalProvider:
    """Answers from one engine process; at most `max_pending` requests at a time."""

    def __init__(
        self,
        name: str,
        client: EngineClient,
        tokenizer: Tokenizer,
        chat_format: ChatFormat,
        generation: dict[str, float],
        max_pending: int,
    ) -> None:
        self.name = name
        self.client = client
        self._tokenizer = tokenizer
        self._chat_format = chat_format
        self._generation = generation
        self._max_pending = max_pending
        self.num_pending = 0

    @property
    def is_ready(self) -> bool:
        """Whether the engine process answers."""
        return self.client.ready

    @property
    def stats(self) -> Stats:
        """What the engine last said of itself."""
        return self.client.stats

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """Stream the answer to a request; see `Provider`."""
        if self.num_pending >= self._max_pending:
            raise EngineOverloaded(
                f"{self.num_pending} requests are running or waiting for {self.name}; "
                "try again later or start with a larger --max-queue"
            )
        self.num_pending += 1
        try:
            async with aclosing(self._generate(request)) as events:
                async for event in events:
                    yield event
        finally:
            self.num_pending -= 1

    async def _generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        if not self.client.ready:
            raise EngineOverloaded(f"{self.name} is being loaded; try again in a moment")
        prompts = await self._encode(request)
        sampling = self._with_model_defaults(request)
        submit = Submit(request.request_id, prompts, sampling, request.cache_salt)
        counts = Counts()
        stream = self.client.submit(submit)
        try:
            async for output in stream:
                if not counts.started:
                    counts.started = True
                    yield Started(self.name)
                counts.add(output)
                if output.text or output.logprobs:
                    yield TextDelta(output.index, output.text, output.logprobs)
                if output.finish_reason is not None:
                    yield Finished(output.index, output.finish_reason)
            yield Completed(counts.usage(prompts, sampling.n))
        finally:
            await stream.aclose()

    def _with_model_defaults(self, request: GenerationRequest) -> SamplingParams:
        defaults = {k: v for k, v in self._generation.items() if k not in request.given}
        if not defaults:
            return request.sampling
        return msgspec.structs.replace(request.sampling, **defaults)

    async def _encode(self, request: GenerationRequest) -> tuple[tuple[int, ...], ...]:
        """Give the token ids of every prompt; refuses those that are too long."""
        num_chars = sum(len(message.content) for message in request.messages) + sum(
            len(prompt) for prompt in request.prompts if isinstance(prompt, str)
        )
        if num_chars > LONG_TEXT_CHARS:
            prompts = await asyncio.to_thread(self._encode_now, request)
        else:
            prompts = self._encode_now(request)
        limit = self.client.max_model_len
        for index, token_ids in enumerate(prompts):
            if len(token_ids) >= limit:
                param = "messages" if request.messages else "prompt"
                if len(prompts) > 1:
                    param = f"prompt[{index}]"
                raise ContextLengthExceeded(len(token_ids), limit, param)
        return prompts

    def _encode_now(self, request: GenerationRequest) -> tuple[tuple[int, ...], ...]:
        if request.messages:
            return (tuple(self._chat_format.encode(request.messages, self._tokenizer)),)
        prefix = tuple(self._chat_format.raw_prefix(self._tokenizer))
        return tuple(
            prefix + tuple(self._tokenizer.encode(prompt)) if isinstance(prompt, str) else prompt
            for prompt in request.prompts
        )


class Counts:
    """Adds up the tokens of a request as its outputs arrive."""

    def __init__(self) -> None:
        self.started = False
        self._cached: dict[int, int] = {}
        self._output: dict[int, int] = {}

    def add(self, output: SequenceOutput) -> None:
        """Note the counts of one output."""
        self._output[output.index] = output.num_output_tokens
        self._cached.setdefault(output.index, output.num_cached_tokens)

    def usage(self, prompts: tuple[tuple[int, ...], ...], n: int) -> Usage:
        """Give the usage; of a prompt's `n` choices only the first counts as cached."""
        return Usage(
            prompt_tokens=sum(len(token_ids) for token_ids in prompts),
            completion_tokens=sum(self._output.values()),
            cached_tokens=sum(self._cached.get(p * n, 0) for p in range(len(prompts))),
        )
