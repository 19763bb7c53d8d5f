"""The library: a model in this process, without server or sockets.

`LLM` runs the same engine as the server, on the caller's thread; use one from one thread. Prompts
given together are batched together. Whatever can't be done raises an `OutriderError`.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from outrider import config
from outrider.dialects.base import join_tool_calls
from outrider.engine.engine import Engine
from outrider.engine.loader import LoadedModel, load_engine
from outrider.engine.protocol import Rejected, SequenceOutput, Submit
from outrider.errors import (
    ConfigError,
    ContextLengthExceeded,
    EngineFailed,
    InvalidRequest,
    OutriderError,
    UnsupportedParameter,
)
from outrider.llm_input import (
    AnyMessage,
    AnyTool,
    AnyToolChoice,
    check_pictures,
    read_all_params,
    read_chat,
    read_params,
    read_prompt_or_messages,
    read_prompts,
    read_text,
    read_token_ids,
    read_tools,
)
from outrider.text.answer import ToolUse
from outrider.text.image_tiles import cut_tiles
from outrider.text.prompt import EncodedPrompt, PromptEncoder
from outrider.types import (
    Finished,
    FinishReason,
    Prompt,
    SamplingParams,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
)

if TYPE_CHECKING:
    from PIL import Image

AnyPrompt = str | Iterable[int]
Item = SequenceOutput | OutriderError


@dataclass(frozen=True)
class Choice:
    """One answer to a prompt."""

    text: str
    token_ids: list[int]  # as generated; ends with the token that ended the answer
    finish_reason: FinishReason
    logprobs: list[TokenLogprob] = field(default_factory=list)  # of the tokens in `text`
    tool_calls: list[ToolCall] = field(default_factory=list)  # which aren't part of `text`


@dataclass(frozen=True)
class Completion:
    """The answers to one prompt; `text` and what follows are those of the first choice."""

    prompt_token_ids: list[int]
    choices: list[Choice]

    @property
    def text(self) -> str:
        """Text of the first choice."""
        return self.choices[0].text

    @property
    def token_ids(self) -> list[int]:
        """Generated token ids of the first choice."""
        return self.choices[0].token_ids

    @property
    def finish_reason(self) -> FinishReason:
        """Why the first choice ended."""
        return self.choices[0].finish_reason

    @property
    def logprobs(self) -> list[TokenLogprob]:
        """Logprobs of the first choice; empty unless asked for."""
        return self.choices[0].logprobs

    @property
    def tool_calls(self) -> list[ToolCall]:
        """Tool calls of the first choice."""
        return self.choices[0].tool_calls


class LLM:
    """One loaded model.

    `name_or_path` is what `outrider pull` knows, a .gguf file or a safetensors folder. Further
    settings are those of an engine: `threads`, `kv_memory_mib`, `max_model_len`, `max_num_seqs` …
    Environment and outrider.toml count as they do for the server. Only `max_step_ms` is 0 unless it
    is given here: a batch has nobody to keep waiting.
    """

    def __init__(
        self, name_or_path: str, weights: str = "auto", **settings: str | int | bool
    ) -> None:
        known = [
            name
            for name in config.EngineConfig.__struct_fields__
            if name not in ("model", "weights")
        ]
        for name in settings:
            if name not in known:
                raise ConfigError(f"LLM has no setting {name}{config.nearest(name, known)}")
        flags = {"model": str(name_or_path), "weights": weights, "max_step_ms": 0, **settings}
        loaded = load_engine(config.load(flags).engine)
        self._loaded: LoadedModel | None = loaded
        self._prompts = PromptEncoder(loaded.tokenizer, loaded.chat_format, loaded.vision)
        self._request_numbers = itertools.count()
        self._items: dict[str, deque[Item]] = {}

    def generate(
        self,
        prompts: AnyPrompt | Iterable[AnyPrompt],
        params: SamplingParams | Iterable[SamplingParams] | None = None,
    ) -> list[Completion]:
        """Complete one or many prompts; gives one completion per prompt, in their order.

        A prompt is a text, which is tokenised as plain text after the model's own prefix, or a
        list of token ids, which is taken as it is. `params` is for all or one per prompt.
        """
        encoded = [self._encode_prompt(prompt) for prompt in read_prompts(prompts)]
        all_params = read_all_params(params, len(encoded), self._default_params())
        return self._complete(encoded, all_params)

    def chat(
        self,
        messages: Iterable[AnyMessage],
        params: SamplingParams | None = None,
        tools: Iterable[AnyTool] | None = (),
        tool_choice: AnyToolChoice | None = "auto",
        parallel_tool_calls: bool = True,
    ) -> Completion:
        """Answer a conversation in the model's own chat format.

        Messages and tools are `Message` and `Tool` or dictionaries as OpenAI's API has them. An
        image is a part of a content: a data URI, or {"type": "image", "image": a Pillow image}.
        """
        self._require()
        use = read_tools(tools, tool_choice, parallel_tool_calls)
        params = read_params(params) or self._default_params()
        prompt = read_chat(messages).encode(self._prompts, use)
        return self._complete([prompt], [params], use)[0]

    def stream(
        self,
        prompt_or_messages: AnyPrompt | Iterable[AnyMessage],
        params: SamplingParams | None = None,
    ) -> Generator[str, None, None]:
        """Give the answer to a prompt or a conversation piece by piece; closing it stops it."""
        params = read_params(params) or self._default_params()
        if params.n != 1:
            raise InvalidRequest(f"n is {params.n} but a stream has one choice", "n")
        wanted = read_prompt_or_messages(prompt_or_messages)
        if isinstance(wanted, list):
            prompt = read_chat(wanted).encode(self._prompts, ToolUse())
        else:
            prompt = self._encode_prompt(wanted)
        return self._stream(prompt, params)

    def logits(
        self, token_ids: Iterable[int], images: Iterable[Image.Image] | None = None
    ) -> NDArray[np.float32]:
        """Compute logits [T, V] after each of the token ids [T].

        The ids hold the patch tokens of all images in their places, as the model sees them.
        """
        loaded = self._require()
        pictures = check_pictures(images)
        if pictures and loaded.vision is None:
            raise UnsupportedParameter("this is a text model; it takes no images", "images")
        ids = read_token_ids(token_ids, "token_ids")
        if not ids:
            raise InvalidRequest("token_ids is empty; give at least one", "token_ids")
        if len(ids) > loaded.runner.max_model_len:
            raise ContextLengthExceeded(len(ids), loaded.runner.max_model_len, "token_ids")
        loaded.engine.check_token_ids(ids, "token_ids")
        tiled = [
            cut_tiles(picture, self._prompts.vision, name) for name, picture in pictures.items()
        ]
        logits = loaded.runner.logits_all(np.array(ids, np.int32), tiled)
        _check_numbers(logits)
        return logits

    def tokenize(self, text: str) -> list[int]:
        """Give the token ids of a text; names of control tokens in it stay text."""
        self._require()
        return self._prompts.tokenizer().encode(read_text(text, "text"))

    def detokenize(self, token_ids: Iterable[int]) -> str:
        """Give the text of token ids, without control tokens."""
        self._require()
        return self._prompts.tokenizer().decode(read_token_ids(token_ids, "token_ids"))

    def close(self) -> None:
        """Let go of the model; idempotent."""
        self._loaded = None
        self._items.clear()

    def __enter__(self) -> LLM:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _require(self) -> LoadedModel:
        if self._loaded is None:
            raise EngineFailed("this LLM was closed; make a new one")
        return self._loaded

    def _default_params(self) -> SamplingParams:
        return msgspec.convert(self._require().generation, SamplingParams)

    def _encode_prompt(self, prompt: Prompt) -> EncodedPrompt:
        self._require()
        if isinstance(prompt, str):
            return EncodedPrompt(self._prompts.text(prompt))
        return EncodedPrompt(prompt)

    def _complete(
        self,
        prompts: list[EncodedPrompt],
        params: list[SamplingParams],
        use: ToolUse | None = None,
    ) -> list[Completion]:
        use = use or ToolUse()
        request_ids: list[str] = []
        try:
            for prompt, sampling in zip(prompts, params, strict=True):
                request_ids.append(self._submit(prompt, sampling, use))
            return [
                Completion(
                    list(prompts[index].token_ids), self._collect(request_id, params[index].n, use)
                )
                for index, request_id in enumerate(request_ids)
            ]
        finally:
            for request_id in request_ids:
                self._drop(request_id)

    def _collect(self, request_id: str, num_choices: int, use: ToolUse) -> list[Choice]:
        outputs: list[list[SequenceOutput]] = [[] for _ in range(num_choices)]
        for output in self._outputs(request_id, num_choices):
            outputs[output.index].append(output)
        return [_join(parts, use) for parts in outputs]

    def _stream(self, prompt: EncodedPrompt, params: SamplingParams) -> Generator[str, None, None]:
        request_id = self._submit(prompt, params, ToolUse())
        try:
            for output in self._outputs(request_id, 1):
                if output.text:
                    yield output.text
        finally:
            self._drop(request_id)

    def _submit(self, prompt: EncodedPrompt, params: SamplingParams, use: ToolUse) -> str:
        request_id = f"llm-{next(self._request_numbers)}"
        submit = Submit(request_id, (prompt.token_ids,), params, "", prompt.images, use.grammar)
        self._require().engine.submit(submit)
        self._items[request_id] = deque()
        return request_id

    def _outputs(self, request_id: str, num_open: int) -> Iterator[SequenceOutput]:
        while num_open:
            engine = self._require().engine
            items = self._items[request_id]
            while not items:
                self._step(engine)
            item = items.popleft()
            if isinstance(item, OutriderError):
                raise item
            num_open -= item.finish_reason is not None
            yield item

    def _step(self, engine: Engine) -> None:
        """Advance every request of this LLM, also those whose stream isn't read right now."""
        for output in engine.step():
            self._items[output.request_id].append(output)
        for rejected in engine.take_failed():
            self._items[rejected.request_id].append(_to_error(rejected))

    def _drop(self, request_id: str) -> None:
        self._items.pop(request_id, None)
        if self._loaded is not None:
            self._loaded.engine.abort(request_id)


def _to_error(rejected: Rejected) -> OutriderError:
    if rejected.code == InvalidRequest.code:
        return InvalidRequest(rejected.message, rejected.param)
    return EngineFailed(rejected.message)


def _join(outputs: list[SequenceOutput], use: ToolUse) -> Choice:
    reader = use.reader(outputs[0].index)
    events = [
        event
        for output in outputs
        for event in reader.read(output.text, output.logprobs, output.finish_reason)
    ]
    finished = events[-1]
    assert isinstance(finished, Finished)
    texts = [event for event in events if isinstance(event, TextDelta)]
    return Choice(
        text="".join(delta.text for delta in texts),
        token_ids=[token_id for output in outputs for token_id in output.token_ids],
        finish_reason=finished.finish_reason,
        logprobs=[logprob for delta in texts for logprob in delta.logprobs],
        tool_calls=list(join_tool_calls(e for e in events if isinstance(e, ToolCallDelta))),
    )


def _check_numbers(logits: NDArray[np.float32]) -> None:
    """Refuse logits [T, V] that nothing can be made of, as the engine does at every step."""
    with np.errstate(invalid="ignore"):
        is_good = np.isfinite(logits.max(axis=1))
    if not is_good.all():
        raise EngineFailed(
            f"the model gave logits that are not numbers after token {is_good.argmin()}; its "
            "weights or this build are broken: pull the model again"
        )
