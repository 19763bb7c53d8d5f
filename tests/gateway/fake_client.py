"""A stand-in for `EngineClient`, a tokenizer and a chat format, for tests of what lies above them.

Gives the outputs it was told to give; refuses nothing and starts no process.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterable
from typing import Any

from fake_engine import PATCH, SPECIAL, FakeTokenizer
from outrider.engine.protocol import Ready, SequenceOutput, Stats, Submit
from outrider.gateway.local import LocalProvider, ModelFacts
from outrider.gateway.provider import checked
from outrider.model.config import VisionConfig
from outrider.text.chat import Conversation
from outrider.types import Event, FinishReason, GenerationRequest, ImagePart, Message

Script = Callable[[Submit], Iterable[SequenceOutput | Exception]]


class FakeClient:
    """Plays a script for every request and notes what it was asked."""

    def __init__(self, script: Script, max_model_len: int = 100) -> None:
        self.script = script
        self.max_model_len = max_model_len
        self.ready = True
        self.restarts = 3
        self.stats = Stats(num_running=2, num_waiting=1, num_free_blocks=60, num_blocks=64)
        self.info: Ready | None = Ready(4321, max_model_len, 64, 16)
        self.submitted: list[Submit] = []
        self.num_closed = 0

    async def submit(self, request: Submit) -> AsyncGenerator[SequenceOutput, None]:
        self.submitted.append(request)
        try:
            for item in self.script(request):
                await asyncio.sleep(0)
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self.num_closed += 1


class NotingTokenizer(FakeTokenizer):
    """Notes which threads it worked in; every name is that of a control token."""

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def encode(self, text: str, param: str | None = None) -> list[int]:
        self.threads.add(threading.get_ident())
        return super().encode(text)

    def special(self, name: str) -> int:
        return PATCH if name == "<|patch|>" else SPECIAL


class PlainChat:
    """A conversation is its contents, one after the other, behind the names of the tools.

    Raw prompts begin with a token.
    """

    stop_token_names = ()

    def encode(self, conversation: Conversation, tokenizer: NotingTokenizer) -> list[int]:
        images = iter(conversation.images)
        token_ids = [i for tool in conversation.tools for i in tokenizer.encode(tool.name)]
        for message in conversation.messages:
            parts = [message.content] if isinstance(message.content, str) else message.content
            for part in parts:
                if isinstance(part, ImagePart):
                    token_ids += next(images)
                else:
                    token_ids += tokenizer.encode(part if isinstance(part, str) else part.text)
        return token_ids

    def raw_prefix(self, tokenizer: FakeTokenizer) -> tuple[int, ...]:
        return (SPECIAL,)


def output(
    index: int,
    text: str = "",
    *,
    count: int = 1,
    cached: int = 0,
    finish_reason: FinishReason | None = None,
) -> SequenceOutput:
    return SequenceOutput(
        "r1",
        index,
        text,
        (1,),
        finish_reason=finish_reason,
        num_cached_tokens=cached,
        num_output_tokens=count,
    )


def short_answers(submit: Submit) -> list[SequenceOutput | Exception]:
    """Give every choice two tokens."""
    indices = range(len(submit.prompts) * submit.sampling.n)
    return [
        *(output(index, "Hel", count=1) for index in indices),
        *(output(index, "lo", count=2, finish_reason="stop") for index in indices),
    ]


def make_provider(
    client: FakeClient,
    generation: dict[str, float] | None = None,
    max_pending: int = 4,
    tokenizer: NotingTokenizer | None = None,
    vision: VisionConfig | None = None,
    max_running: int | None = None,
) -> LocalProvider:
    facts = ModelFacts(
        tokenizer or NotingTokenizer(),  # type: ignore[arg-type]
        PlainChat(),  # type: ignore[arg-type]
        generation or {},
        vision,
    )
    return LocalProvider("fake", client, facts, max_pending, max_running)  # type: ignore[arg-type]


HELLO = (Message("user", "Hello"),)


def request(**changes: Any) -> GenerationRequest:
    if "prompts" not in changes:
        changes.setdefault("messages", HELLO)
    return GenerationRequest(request_id="r1", model="fake", **changes)


def run(provider: LocalProvider, wanted: GenerationRequest) -> list[Event]:
    async def read() -> list[Event]:
        num_choices = max(1, len(wanted.prompts)) * wanted.sampling.n
        return [event async for event in checked(provider.generate(wanted), num_choices)]

    return asyncio.run(read())
