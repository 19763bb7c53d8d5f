"""What the HTTP process and an engine process say to each other.

Frames on a Unix socket: a 4-byte little-endian length, then one msgpack-encoded message. The
client sends `Submit` (with the pixels of its images), `Embed`, `Abort` and `Drain`; the engine
answers with `Ready` or `Failed` once, then `Outputs`, `Embedded`, `Rejected` and, at most once a
second and when it becomes idle, `Stats`. A frame that is too long is refused on both sides.
"""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from outrider.errors import InvalidRequest
from outrider.model.config import Pooling
from outrider.text.image_tiles import TiledImage
from outrider.types import FinishReason, Grammar, SamplingParams, TokenLogprob

MAX_FRAME_BYTES = 1 << 28


class Submit(msgspec.Struct, frozen=True, tag="submit"):
    """Run one request: each prompt `sampling.n` times.

    With `images` there is one prompt, which holds the patch tokens of all of them.
    """

    request_id: str
    prompts: tuple[tuple[int, ...], ...]  # token ids
    sampling: SamplingParams
    cache_salt: str = ""
    images: tuple[TiledImage, ...] = ()
    grammar: Grammar | None = None
    lookup_token_ids: tuple[int, ...] = ()  # a text that the answers are expected to be like
    is_background: bool = False  # gives way to requests that somebody waits for


class Embed(msgspec.Struct, frozen=True, tag="embed"):
    """Turn texts into vectors, with the embedding model beside the chat model."""

    request_id: str
    texts: tuple[tuple[int, ...], ...]  # token ids, the ends that the model wants included
    pooling: Pooling | None = None  # None: the model's own
    dimensions: int | None = None  # None: all of them


class Abort(msgspec.Struct, frozen=True, tag="abort"):
    """Drop a request; unknown and finished ids are ignored."""

    request_id: str


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """Finish what runs, then exit."""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The model is mapped and answers; sent once after the start."""

    pid: int
    max_model_len: int
    num_blocks: int
    block_size: int


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The model can't be served as configured; the process exits with code 2."""

    message: str


class SequenceOutput(msgspec.Struct, frozen=True):
    """What one step added to one choice of a request."""

    request_id: str
    index: int  # prompt index * n + choice
    text: str  # complete characters, stop strings cut off; may be empty
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprob, ...] = ()
    finish_reason: FinishReason | None = None
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0  # of the prompt, found in the prefix cache
    num_output_tokens: int = 0  # so far
    num_predicted_tokens: int = 0  # of `lookup_token_ids`, that have come true so far


class Outputs(msgspec.Struct, frozen=True, tag="outputs"):
    """Everything one step produced."""

    outputs: list[SequenceOutput]


class Embedded(msgspec.Struct, frozen=True, tag="embedded"):
    """The vectors of one `Embed`: little-endian f32 [texts, dimensions]."""

    request_id: str
    vectors: bytes


class Rejected(msgspec.Struct, frozen=True, tag="rejected"):
    """A request that the engine can't run, or can't go on with; nothing follows for it.

    `code` is that of the error class; the counts are those of `ContextLengthExceeded`.
    """

    request_id: str
    code: str
    message: str
    param: str | None = None
    num_prompt_tokens: int = 0
    max_model_len: int = 0


class Stats(msgspec.Struct, frozen=True, tag="stats"):
    """Counters since the start and gauges of this moment."""

    num_running: int = 0
    num_waiting: int = 0
    num_free_blocks: int = 0
    num_blocks: int = 0
    num_prompt_tokens: int = 0
    num_output_tokens: int = 0
    num_cached_tokens: int = 0
    num_preemptions: int = 0
    num_steps: int = 0
    num_drafted_tokens: int = 0
    num_accepted_tokens: int = 0  # of those drafted
    num_encoded_images: int = 0
    num_encoded_tiles: int = 0
    image_cache_bytes: int = 0
    resident_bytes: int = 0


ToEngine = Submit | Embed | Abort | Drain
FromEngine = Ready | Failed | Outputs | Embedded | Rejected | Stats

LENGTH_BYTES = 4
M = TypeVar("M")


def encode_frame(message: ToEngine | FromEngine) -> bytes:
    """Encode one message with its length in front; a request that is too long is refused."""
    body = msgspec.msgpack.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        text = f"{len(body):,} bytes with its images; at most {MAX_FRAME_BYTES:,} are allowed"
        raise InvalidRequest(f"the request has {text}, send fewer images", "images")
    return len(body).to_bytes(LENGTH_BYTES, "little") + body


class FrameDecoder(Generic[M]):
    """Cuts a stream of bytes into messages of one direction; keeps what is incomplete."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[M]) -> None:
        self._decoder = decoder
        self._buffer = bytearray()

    @property
    def is_partial(self) -> bool:
        """Say whether the rest of a message is on its way."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> list[M]:
        """Add received bytes and give the messages that are complete now."""
        self._buffer += data
        messages = []
        start = 0
        while len(self._buffer) - start >= LENGTH_BYTES:
            body = start + LENGTH_BYTES
            length = int.from_bytes(self._buffer[start:body], "little")
            if length > MAX_FRAME_BYTES:
                raise ValueError(f"a frame says it has {length:,} bytes; the stream is broken")
            if len(self._buffer) < body + length:
                break
            messages.append(self._decoder.decode(memoryview(self._buffer)[body : body + length]))
            start = body + length
        del self._buffer[:start]
        return messages


def engine_decoder() -> FrameDecoder[ToEngine]:
    """Make the decoder of what the client sends."""
    return FrameDecoder(msgspec.msgpack.Decoder(ToEngine))


def client_decoder() -> FrameDecoder[FromEngine]:
    """Make the decoder of what the engine sends."""
    return FrameDecoder(msgspec.msgpack.Decoder(FromEngine))
