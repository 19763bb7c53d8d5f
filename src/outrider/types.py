"""The domain types that flow between wires, gateway and engine.

A wire decodes its bytes into one `GenerationRequest`; a provider answers with a stream of events
that follows `Started (TextDelta | ToolCallDelta | Finished)* Completed`. Nothing here knows JSON.
Sampling parameters are declared here once; no layer between wire and sampler names them again.
"""

from __future__ import annotations

import math
import struct
from typing import Any, Literal

import msgspec

from outrider.errors import InvalidRequest

Role = Literal["system", "user", "assistant", "tool"]
Detail = Literal["auto", "high", "low"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]

# Limits of counts that a request may ask for; each is checked before anything is allocated.
MAX_CHOICES = 128
MAX_STOP_STRINGS = 16
MAX_STOP_CHARS = 1024
MAX_LOGIT_BIASES = 1024
MAX_TOP_LOGPROBS = 20
MAX_PROMPTS = 256
MAX_MESSAGES = 10_000
MAX_IMAGE_BYTES = 20 << 20  # of one encoded image


class SamplingParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How tokens are chosen and when a sequence ends.

    Order of application: logit_bias → penalties → temperature → top_k → top_p → min_p → top_a.
    Neutral values leave the model's distribution as it is. `temperature` 0 is greedy.
    Raises `InvalidRequest` naming the field for a value out of range.
    """

    temperature: float = 1.0  # 0 .. 5
    top_p: float = 1.0  # > 0; 1 or more is neutral
    top_k: int = 0  # 0 is neutral
    min_p: float = 0.0  # share of the best token's probability, 0 .. 1
    top_a: float = 0.0  # p ≥ top_a · max(p)², 0 .. 1
    repetition_penalty: float = 1.0  # > 0; over prompt and output (CTRL, arXiv:1909.05858)
    frequency_penalty: float = 0.0  # -2 .. 2, per occurrence in the output
    presence_penalty: float = 0.0  # -2 .. 2, once per token in the output
    logit_bias: dict[int, float] = {}
    seed: int | None = None  # same seed and prompt: same tokens, alone or in a batch
    stop: tuple[str, ...] = ()  # not part of the text that is returned
    max_tokens: int | None = None  # None: up to the end of the context
    ignore_eos: bool = False
    logprobs: int | None = None  # alternatives per token; 0: the chosen token only; None: off
    n: int = 1  # choices per prompt

    def __post_init__(self) -> None:
        _check_range("temperature", self.temperature, 0.0, 5.0)
        _check_range("top_p", self.top_p, 0.0, math.inf, open_low=True)
        _check_range("top_k", self.top_k, 0, 2**31 - 1)
        _check_range("min_p", self.min_p, 0.0, 1.0)
        _check_range("top_a", self.top_a, 0.0, 1.0)
        _check_range("repetition_penalty", self.repetition_penalty, 0.0, 1e6, open_low=True)
        _check_range("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        _check_range("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _check_range("n", self.n, 1, MAX_CHOICES)
        if self.max_tokens is not None:
            _check_range("max_tokens", self.max_tokens, 1, 2**31 - 1)
        if self.seed is not None:
            _check_range("seed", self.seed, -(2**63), 2**64 - 1)
        if self.logprobs is not None:
            _check_range("logprobs", self.logprobs, 0, MAX_TOP_LOGPROBS)
        self._check_lists()

    def _check_lists(self) -> None:
        if len(self.stop) > MAX_STOP_STRINGS:
            raise InvalidRequest(
                f"stop has {len(self.stop)} strings; at most {MAX_STOP_STRINGS} are allowed", "stop"
            )
        for index, text in enumerate(self.stop):
            if not 1 <= len(text) <= MAX_STOP_CHARS:
                raise InvalidRequest(
                    f"stop[{index}] has {len(text)} characters; send 1 to {MAX_STOP_CHARS}",
                    f"stop[{index}]",
                )
        if len(self.logit_bias) > MAX_LOGIT_BIASES:
            raise InvalidRequest(
                f"logit_bias has {len(self.logit_bias)} entries; at most {MAX_LOGIT_BIASES} are "
                "allowed",
                "logit_bias",
            )
        for token_id, bias in self.logit_bias.items():
            _check_range(f"logit_bias.{token_id}", bias, -100.0, 100.0)


def _too_many(param: str, count: int, most: int) -> InvalidRequest:
    text = f"{param} has {count:,} entries; at most {most:,} are allowed"
    return InvalidRequest(text, param)


def _check_range(
    name: str, value: float, low: float, high: float, *, open_low: bool = False
) -> None:
    too_low = value <= low if open_low else value < low
    if too_low or value > high or math.isnan(value):
        above = "greater than" if open_low else "at least"
        upper = "" if math.isinf(high) else f" and at most {_shown(high)}"
        raise InvalidRequest(f"{name} is {value}; it must be {above} {_shown(low)}{upper}", name)


def _shown(bound: float) -> str:
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"


class TextPart(msgspec.Struct, frozen=True, tag="text"):
    """A piece of a message's text."""

    text: str


class ImagePart(msgspec.Struct, frozen=True, tag="image"):
    """An image as its sender encoded it (PNG, JPEG, WebP, GIF); not looked into yet."""

    data: bytes
    detail: Detail = "auto"  # low: one tile; the others: as many as the image fills
    url: str = ""  # where the image is; empty once it is here


Content = str | tuple[TextPart | ImagePart, ...]


class ToolCall(msgspec.Struct, frozen=True):
    """A call that the model made; `arguments` is a JSON object as text."""

    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation; its text never holds control tokens.

    Only an assistant's message has `tool_calls`; only a tool's message answers a `tool_call_id`.
    The last one may be open, if it is the assistant's: then the answer goes on where it stops.
    """

    role: Role
    content: Content = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    is_open: bool = False

    @property
    def text(self) -> str:
        """The text of all parts."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """The images, in order."""
        if isinstance(self.content, str):
            return ()
        return tuple(part for part in self.content if isinstance(part, ImagePart))


class Tool(msgspec.Struct, frozen=True):
    """A function that the model may call; `parameters` is a JSON Schema of its arguments.

    If one tool of a request is `strict`, the calls of all its tools are held to their schemas.
    """

    name: str
    description: str = ""
    parameters: dict[str, Any] = {}
    strict: bool = False


class NamedTool(msgspec.Struct, frozen=True):
    """The choice of one tool, which must be called."""

    name: str


ToolChoice = Literal["auto", "none", "required"] | NamedTool


class EmbeddedFunction(msgspec.Struct, frozen=True):
    """JavaScript that stands for the tool of its name: the server runs it when the model calls."""

    name: str
    code: str


class Grammar(msgspec.Struct, frozen=True):
    """What an answer must match; enforced token by token, or refused when it can't be.

    `kind` says what `source` is: a JSON Schema (as text), a Lark grammar or a regular expression.
    """

    kind: Literal["json_schema", "lark", "regex"]
    source: str
    param: str = "tools"  # the request's field that asks for it, for errors


Prompt = str | tuple[int, ...]


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller wants: either a conversation (`messages`) or raw `prompts`.

    Choice `i` of prompt `p` has index `p * sampling.n + i` in the events.
    """

    request_id: str
    model: str
    messages: tuple[Message, ...] = ()
    prompts: tuple[Prompt, ...] = ()
    sampling: SamplingParams = SamplingParams()
    # Names of the sampling fields that the caller sent; the model's own defaults replace the rest
    # (order: request, generation_config.json, the wire's documented default).
    given: frozenset[str] = frozenset()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = "auto"
    parallel_tool_calls: bool = True
    functions: tuple[EmbeddedFunction, ...] = ()  # of some of the tools
    grammar: Grammar | None = None  # of the text; calls of tools have their own
    prediction: str = ""  # a text that the answers are expected to be like; changes no token
    stream: bool = False
    reject_if_busy: bool = False  # refuse what would have to wait for others
    cache_salt: str = ""  # prefix-cache blocks are shared only between equal salts
    is_background: bool = False  # nobody waits for the answer: others come first
    trace_headers: dict[str, str] = {}  # which trace it belongs to, for other machines

    def __post_init__(self) -> None:
        if bool(self.messages) == bool(self.prompts):
            raise InvalidRequest("send either messages or a prompt, not both and not neither")
        if len(self.messages) > MAX_MESSAGES:
            raise _too_many("messages", len(self.messages), MAX_MESSAGES)
        if len(self.prompts) > MAX_PROMPTS:
            raise _too_many("prompt", len(self.prompts), MAX_PROMPTS)
        if len(self.prompts) * self.sampling.n > MAX_CHOICES * 2:
            raise InvalidRequest(
                f"{len(self.prompts)} prompts with n = {self.sampling.n} are more than "
                f"{MAX_CHOICES * 2} choices; send several requests",
                "n",
            )


class ImageTiles(msgspec.Struct, frozen=True):
    """How a model cuts images: into tiles with sides of so many pixels, and one of the whole."""

    side: int
    max_tiles: int  # of one image, the one of the whole not counted
    tokens_per_tile: int


class TokenAlternative(msgspec.Struct, frozen=True, array_like=True):
    """One token the model could have chosen, with its natural-log probability."""

    token_id: int
    token: bytes  # the token's bytes; may be a part of a UTF-8 character
    logprob: float


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """The chosen token and its best alternatives, most probable first."""

    token_id: int
    token: bytes
    logprob: float
    top: tuple[TokenAlternative, ...] = ()


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one request, summed over its prompts and choices; a prompt is counted once."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    # Of the predictions that came with the request, once per choice.
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0


class Started(msgspec.Struct, frozen=True):
    """The provider took the request; `model` is the name of the model that answers.

    `provider` is the host's name as people read it, empty for this server itself; `upstream_id`
    is what that host calls the answer. `prompt_tokens` is 0 if the host says it at the end only.
    """

    model: str
    provider: str = ""
    upstream_id: str = ""
    prompt_tokens: int = 0


class TextDelta(msgspec.Struct, frozen=True):
    """Text that was added to choice `index`; with logprobs of the tokens it came from.

    `num_tokens`, here and below, is how many tokens came since the choice's event before. Those
    of all events together are `Usage.completion_tokens`; a host that doesn't say leaves them 0.
    """

    index: int
    text: str
    logprobs: tuple[TokenLogprob, ...] = ()
    num_tokens: int = 0


class ToolCallDelta(msgspec.Struct, frozen=True):
    """A part of tool call `call_index` of choice `index`.

    The first part carries `id` and `name`; the joined `arguments` are a JSON object.
    """

    index: int
    call_index: int
    arguments: str = ""
    id: str = ""
    name: str = ""
    num_tokens: int = 0


class Finished(msgspec.Struct, frozen=True):
    """Choice `index` is complete; `native_reason` is the host's own word for why."""

    index: int
    finish_reason: FinishReason
    num_tokens: int = 0
    native_reason: str = ""


class Completed(msgspec.Struct, frozen=True):
    """Every choice is complete; nothing follows. The cost is in millionths of a US dollar."""

    usage: Usage
    cost_microusd: int = 0


Event = Started | TextDelta | ToolCallDelta | Finished | Completed


MAX_TEXTS = 2048  # of one request for embeddings
MAX_EMBEDDING_TOKENS = 300_000  # of all its texts together


class EmbeddingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Texts, or token ids of texts, that a caller wants as vectors."""

    request_id: str
    model: str
    texts: tuple[Prompt, ...]
    param: str = "input"  # the field of the request that holds the texts
    dimensions: int | None = None  # None: all of the model's
    pooling: Literal["mean", "cls"] | None = None  # None: the model's own
    trace_headers: dict[str, str] = {}  # see `GenerationRequest`

    def __post_init__(self) -> None:
        if not self.texts:
            raise InvalidRequest(f"{self.param} is empty; send at least one text", self.param)
        if len(self.texts) > MAX_TEXTS:
            raise InvalidRequest(
                f"{self.param} has {len(self.texts):,} texts; at most {MAX_TEXTS:,} are allowed",
                self.param,
            )
        if self.dimensions is not None:
            _check_range("dimensions", self.dimensions, 1, 2**31 - 1)


class Embeddings(msgspec.Struct, frozen=True):
    """One vector per text, in the order of the texts: little-endian f32 [texts, dimensions]."""

    model: str
    data: bytes
    num_texts: int
    pooling: str  # empty: not known
    usage: Usage
    provider: str = ""  # the host as people read it; empty: this server
    upstream_id: str = ""  # the host's own name for its answer
    is_estimated: bool = False  # the host doesn't say how many tokens it has read

    @property
    def dimensions(self) -> int:
        """Values per vector."""
        return len(self.data) // (4 * self.num_texts)

    def vector_bytes(self, index: int) -> bytes:
        """Give one vector as little-endian f32."""
        size = 4 * self.dimensions
        return self.data[index * size : (index + 1) * size]

    def vector(self, index: int) -> list[float]:
        """Give one vector as numbers."""
        return list(struct.unpack(f"<{self.dimensions}f", self.vector_bytes(index)))
