"""Asks one model at one host for little of everything that the settings say it can do.

A probe is a real request of a few tokens; what comes back is looked at, not only whether something
does. What nobody can see from outside (seeds, penalties) isn't asked for.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable
from contextlib import aclosing
from typing import NamedTuple

import msgspec

from outrider.dialects.base import Answer, collect
from outrider.dialects.capabilities import EMBEDDINGS, Capability
from outrider.errors import OutriderError
from outrider.gateway.embeddings import EmbeddingProvider
from outrider.gateway.endpoint import Endpoint
from outrider.gateway.provider import Provider
from outrider.types import (
    EmbeddingRequest,
    GenerationRequest,
    Grammar,
    ImagePart,
    Message,
    SamplingParams,
    TextPart,
    Tool,
)

MAX_TOKENS = 64
_SCHEMA = '{"type":"object","properties":{"ok":{"type":"boolean"}},"required":["ok"]}'
_TOOL = Tool("get_time", "Give the time in a city.", {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
})  # fmt: skip


class Report(NamedTuple):
    """What probes of one model at one host have shown."""

    fault: str = ""  # why it doesn't answer at all
    answer_s: float = 0.0
    proven: tuple[Capability, ...] = ()
    failed: tuple[tuple[Capability, str], ...] = ()


class _Probe(NamedTuple):
    request: GenerationRequest
    is_good: Callable[[Answer], bool]


def capabilities_of(endpoint: Endpoint) -> frozenset[Capability]:
    """Give what can be asked for of all that an endpoint is said to do."""
    found: dict[Capability, bool] = {
        "tools": endpoint.supports("tools"),
        "json_schema": endpoint.supports("structured_outputs"),
        "logprobs": endpoint.supports("logprobs"),
        "n": endpoint.has_choices,
        "images": endpoint.reads_images,
    }
    return frozenset(name for name, is_there in found.items() if is_there)


async def probe(provider: Provider, capabilities: frozenset[Capability]) -> Report:
    """Ask for a streamed answer, and then for one capability after the other."""
    begin = time.perf_counter()
    streamed = _Probe(_request(stream=True), lambda answer: bool(answer.choices))
    fault = await _fault(provider, streamed)
    answer_s = time.perf_counter() - begin
    if fault:
        return Report(fault)
    proven: list[Capability] = []
    failed: list[tuple[Capability, str]] = []
    for capability, one in _probes().items():
        if capability not in capabilities:
            continue
        if fault := await _fault(provider, one):
            failed.append((capability, fault))
        else:
            proven.append(capability)
    return Report("", answer_s, tuple(proven), tuple(failed))


async def probe_vectors(embedder: EmbeddingProvider) -> Report:
    """Ask for the vector of one text."""
    begin = time.perf_counter()
    request = EmbeddingRequest(request_id="probe", model="", texts=("OK",))
    try:
        await embedder.embed(request)
    except OutriderError as error:
        return Report(error.message)
    return Report("", time.perf_counter() - begin, (EMBEDDINGS,))


async def _fault(provider: Provider, one: _Probe) -> str:
    """Say what is wrong with the answer to a probe; empty if nothing is."""
    try:
        async with aclosing(provider.generate(one.request)) as events:
            answer = await collect(events)
    except OutriderError as error:
        return error.message
    return "" if one.is_good(answer) else "the answer has none"


def _probes() -> dict[Capability, _Probe]:
    sampling = SamplingParams(max_tokens=MAX_TOKENS, temperature=0)
    grammar = Grammar("json_schema", _SCHEMA, "response_format")
    image = (TextPart("What colour is this?"), ImagePart(_red_png()))
    replace = msgspec.structs.replace
    return {
        "tools": _Probe(
            _request("What time is it in Oslo?", tools=(_TOOL,), tool_choice="required"),
            lambda answer: any(choice.tool_calls for choice in answer.choices),
        ),
        "json_schema": _Probe(
            _request('Say in JSON that all is ok: {"ok": true}', grammar=grammar),
            lambda answer: any(_is_ok(choice.text) for choice in answer.choices),
        ),
        "logprobs": _Probe(
            _request(sampling=replace(sampling, logprobs=1)),
            lambda answer: any(choice.logprobs for choice in answer.choices),
        ),
        "n": _Probe(
            _request(sampling=replace(sampling, n=2)), lambda answer: len(answer.choices) == 2
        ),
        "images": _Probe(_request(image), lambda answer: any(c.text for c in answer.choices)),
    }


def _request(
    content: str | tuple[TextPart | ImagePart, ...] = "Reply with the word OK.", **fields: object
) -> GenerationRequest:
    values = {
        "request_id": "probe",
        "model": "",
        "messages": (Message("user", content),),
        "sampling": SamplingParams(max_tokens=MAX_TOKENS, temperature=0),
        "given": frozenset({"max_tokens", "temperature"}),
        **fields,
    }
    return GenerationRequest(**values)  # type: ignore[arg-type]


def _is_ok(text: str) -> bool:
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return False
    return isinstance(value, dict) and isinstance(value.get("ok"), bool)


def _red_png(size: int = 32) -> bytes:
    """Give a red square as PNG."""
    rows = (b"\0" + b"\xff\0\0" * size) * size

    def part(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">2I5B", size, size, 8, 2, 0, 0, 0)
    parts = (part(b"IHDR", head), part(b"IDAT", zlib.compress(rows)), part(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
