"""The provider named local: a model in an engine process on this machine.

The only place that knows both worlds: requests and events on this side, token ids and engine
frames on the other. It formats conversations, cuts images, tokenises, checks lengths and reads
tool calls out of answers; the engine does the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field

import msgspec

from outrider.engine.client import EngineClient
from outrider.engine.grammar_check import GrammarChecker
from outrider.engine.protocol import SequenceOutput, Stats, Submit
from outrider.errors import ContextLengthExceeded, EngineOverloaded
from outrider.model.config import VisionConfig
from outrider.text.answer import AnswerReader, ToolUse
from outrider.text.chat import ChatFormat
from outrider.text.prompt import EncodedPrompt, PromptEncoder
from outrider.text.tokenizer import Tokenizer
from outrider.types import (
    Completed,
    Event,
    GenerationRequest,
    ImageTiles,
    SamplingParams,
    Started,
    Usage,
)

# Longer texts are tokenised off the event loop: about 10 ms of work.
LONG_TEXT_CHARS = 20_000
# Requests whose images are decoded at the same time; one picture may take 400 MB meanwhile.
NUM_IMAGE_THREADS = 2


@dataclass(frozen=True)
class ModelFacts:
    """What this process has to know of a model to write its prompts."""

    tokenizer: Tokenizer | None
    chat_format: ChatFormat
    generation: dict[str, float] = field(default_factory=dict)  # its own sampling defaults
    vision: VisionConfig | None = None


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """What a served model is and can do, for the catalogues of all wires."""

    name: str
    context_length: int | None = None  # in tokens; None while it isn't known
    reads_images: bool = False
    image_tiles: ImageTiles | None = None
    defaults: dict[str, float] = {}  # its own sampling defaults


class LocalProvider:
    """Answers from one engine process; at most `max_pending` requests at a time wait for it.

    Beyond `max_running` of them a request has to wait for others; None: it isn't known when.
    """

    def __init__(
        self,
        name: str,
        client: EngineClient,
        facts: ModelFacts,
        max_pending: int,
        max_running: int | None = None,
    ) -> None:
        self.name = name
        self.client = client
        self._prompts = PromptEncoder(facts.tokenizer, facts.chat_format, facts.vision)
        self._generation = facts.generation
        self._max_pending = max_pending
        self.max_running = max_pending if max_running is None else max_running
        self._grammars = GrammarChecker()
        self._image_threads = ThreadPoolExecutor(NUM_IMAGE_THREADS, "images")
        self.num_pending = 0

    @property
    def is_ready(self) -> bool:
        """Whether the engine process answers."""
        return self.client.ready

    @property
    def card(self) -> ModelCard:
        """What the model can do."""
        return ModelCard(
            name=self.name,
            context_length=self.client.max_model_len or None,
            reads_images=self._prompts.reads_images,
            image_tiles=self._prompts.image_tiles,
            defaults=self._generation,
        )

    @property
    def stats(self) -> Stats:
        """What the engine last said of itself."""
        return self.client.stats

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        """Stream the answer to a request; see `Provider`."""
        if request.reject_if_busy and self.num_pending >= self.max_running:
            raise EngineOverloaded(f"{self.name} is busy, and the request doesn't want to wait")
        if self.num_pending >= self._max_pending and not request.is_background:
            raise EngineOverloaded(
                f"{self.num_pending} requests are running or waiting for {self.name}; "
                "try again later or start with a larger --max-queue"
            )
        # Background requests take no place in the queue; whoever sends them bounds their number.
        self.num_pending += not request.is_background
        try:
            async with aclosing(self._generate(request)) as events:
                async for event in events:
                    yield event
        finally:
            self.num_pending -= not request.is_background

    async def _generate(self, request: GenerationRequest) -> AsyncGenerator[Event, None]:
        if not self.client.ready:
            raise EngineOverloaded(
                f"{self.name} is being loaded or unloaded; try again in a moment"
            )
        submit, use = await self._prepare(request)
        counts = Counts(submit)
        readers: dict[int, AnswerReader] = {}
        stream = self.client.submit(submit)
        del submit  # its images are large
        try:
            async for output in stream:
                if not counts.started:
                    counts.started = True
                    yield Started(self.name, prompt_tokens=counts.prompt_tokens)
                num_tokens = counts.add(output)
                reader = readers.get(output.index)
                if reader is None:
                    reader = readers[output.index] = use.reader(output.index)
                for event in reader.read(
                    output.text, output.logprobs, output.finish_reason, num_tokens
                ):
                    yield event
            yield Completed(counts.usage())
        finally:
            await stream.aclose()

    async def _prepare(self, request: GenerationRequest) -> tuple[Submit, ToolUse]:
        """Make the engine's request; refuses prompts that are too long."""
        use = ToolUse.of(
            request.tools, request.tool_choice, request.parallel_tool_calls, request.grammar
        )
        prompts = await self._encode(request, use)
        if use.grammar is not None:
            await self._grammars.check(use.grammar)
        token_ids = tuple(prompt.token_ids for prompt in prompts)
        submit = Submit(
            request.request_id,
            token_ids,
            self._with_model_defaults(request),
            request.cache_salt,
            prompts[0].images,
            use.grammar,
            lookup_token_ids=await self._encode_prediction(request.prediction),
            is_background=request.is_background,
        )
        return submit, use

    async def _encode_prediction(self, text: str) -> tuple[int, ...]:
        """Give the token ids of a prediction, as far as an answer could reach."""
        if not text:
            return ()
        encode = self._prompts.tokenizer().encode
        if len(text) > LONG_TEXT_CHARS:
            return tuple((await asyncio.to_thread(encode, text))[: self.client.max_model_len])
        return tuple(encode(text)[: self.client.max_model_len])

    def _with_model_defaults(self, request: GenerationRequest) -> SamplingParams:
        defaults = {k: v for k, v in self._generation.items() if k not in request.given}
        if not defaults:
            return request.sampling
        return msgspec.structs.replace(request.sampling, **defaults)

    async def _encode(self, request: GenerationRequest, use: ToolUse) -> list[EncodedPrompt]:
        """Give the token ids and images of every prompt; refuses those that are too long."""
        loop = asyncio.get_running_loop()
        if any(message.images for message in request.messages):
            encoding = loop.run_in_executor(self._image_threads, self._encode_now, request, use)
            prompts = await encoding
        elif _num_chars(request, use) > LONG_TEXT_CHARS:
            prompts = await asyncio.to_thread(self._encode_now, request, use)
        else:
            prompts = self._encode_now(request, use)
        limit = self.client.max_model_len
        for index, prompt in enumerate(prompts):
            if len(prompt.token_ids) >= limit:
                param = "messages" if request.messages else "prompt"
                if len(prompts) > 1:
                    param = f"prompt[{index}]"
                raise ContextLengthExceeded(len(prompt.token_ids), limit, param)
        return prompts

    def _encode_now(self, request: GenerationRequest, use: ToolUse) -> list[EncodedPrompt]:
        if request.messages:
            return [self._prompts.conversation(request.messages, use.tools)]
        return [
            EncodedPrompt(self._prompts.text(prompt) if isinstance(prompt, str) else prompt)
            for prompt in request.prompts
        ]


def _num_chars(request: GenerationRequest, use: ToolUse) -> int:
    """Count what will be tokenised, roughly."""
    prompts = sum(len(prompt) for prompt in request.prompts if isinstance(prompt, str))
    calls = sum(len(c.arguments) for message in request.messages for c in message.tool_calls)
    tools = len(msgspec.json.encode(use.tools)) if use.tools else 0
    return prompts + calls + tools + sum(len(message.text) for message in request.messages)


class Counts:
    """Adds up the tokens of a request as its outputs arrive."""

    def __init__(self, submit: Submit) -> None:
        self.started = False
        self.prompt_tokens = sum(map(len, submit.prompts))
        self._num_lookup_tokens = len(submit.lookup_token_ids)
        self._first_choices = range(0, len(submit.prompts) * submit.sampling.n, submit.sampling.n)
        self._cached: dict[int, int] = {}
        self._output: dict[int, int] = {}
        self._predicted: dict[int, int] = {}

    def add(self, output: SequenceOutput) -> int:
        """Note the counts of one output; give how many tokens it added."""
        before = self._output.get(output.index, 0)
        self._output[output.index] = output.num_output_tokens
        self._predicted[output.index] = output.num_predicted_tokens
        self._cached.setdefault(output.index, output.num_cached_tokens)
        return output.num_output_tokens - before

    def usage(self) -> Usage:
        """Give the usage; of a prompt's choices only the first counts as cached."""
        accepted = sum(self._predicted.values())
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=sum(self._output.values()),
            cached_tokens=sum(self._cached.get(choice, 0) for choice in self._first_choices),
            accepted_prediction_tokens=accepted,
            rejected_prediction_tokens=self._num_lookup_tokens * len(self._predicted) - accepted,
        )
