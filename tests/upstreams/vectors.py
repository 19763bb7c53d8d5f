"""Answers to requests for embeddings, right and wrong, in the shapes of OpenAI and Workers AI."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Sequence
from typing import Any

from upstreams.scripted import Cut, Reply, Seen, native_error, stream, whole

VECTORS = ((0.5, -1.0, 2.0), (0.25, 0.0, 1.0))
TOKENS = 11
USAGE = {"prompt_tokens": TOKENS, "total_tokens": TOKENS}


def packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def answer(*embeddings: object, places: Sequence[Any] = (0, 1), **fields: Any) -> dict[str, Any]:
    """Give a whole answer; an embedding is a list of numbers or a text."""
    data = [
        {"object": "embedding", "index": place, "embedding": one}
        for place, one in zip(places, embeddings, strict=False)
    ]
    return {
        "object": "list",
        "id": "embd-up1",
        "data": data,
        "model": "up",
        "usage": USAGE,
    } | fields


def native(*vectors: Sequence[float], **fields: Any) -> dict[str, Any]:
    """Give a whole answer of Workers AI's native endpoint."""
    result = {"shape": [len(vectors), len(vectors[0])], "data": vectors, "pooling": "cls"}
    return {"result": result | fields, "success": True, "errors": [], "messages": []}


def embed(seen: Seen) -> Reply:
    """Answer any request as the host of its path does: (place, length, dimensions) per text."""
    fields = seen.fields
    texts = fields["text"] if "/ai/run/" in seen.path else fields["input"]
    texts = [texts] if isinstance(texts, str) else texts
    size = fields.get("dimensions", 3)
    vectors = [[float(i), float(len(text)), float(size)][:size] for i, text in enumerate(texts)]
    if "/ai/run/" in seen.path:
        return whole(native(*vectors))
    is_packed = fields.get("encoding_format") == "base64"
    places = range(len(texts))
    data = [packed(vector) if is_packed else vector for vector in vectors]
    return whole(answer(*data, places=places))


def faults() -> dict[str, Reply]:
    """Give answers to two texts that aren't any."""
    a, b = map(packed, VECTORS)
    good = json.dumps(answer(a, b)).encode()
    bodies: dict[str, object] = {
        "one-too-few": answer(a),
        "one-too-many": answer(a, b, a, places=(0, 1, 2)),
        "none": answer(),
        "same-place": answer(a, b, places=(0, 0)),
        "place-skipped": answer(a, b, places=(0, 2)),
        "negative-place": answer(a, b, places=(-1, 0)),
        "half-the-places": answer(a, b, places=(0, None)),
        "nan": answer(a, packed((0.5, math.nan, 1.0))),
        "infinite": answer(packed((math.inf, 0.5, -math.inf)), b),
        "nan-as-a-number": good.replace(json.dumps(a).encode(), b"[NaN, 1, 1]"),
        "too-large": answer([1e39, 0.5, 0.5], [0.5, 0.5, 0.5]),
        "several-sizes": answer(a, packed((0.5, 1.0))),
        "empty-vectors": answer("", ""),
        "bad-base64": answer(a, "!" + b[1:]),
        "cut-base64": answer(a[:-4], b[:-4]),
        "hex": answer("00ff", "00ff"),
        "text-among-numbers": answer([0.5, "x"], [0.5, 0.5]),
        "nested": answer([[0.5]], [[0.5]]),
        "no-data": {"object": "list"},
        "null": b"null",
        "not-json": b"<html>",
        "negative-usage": answer(a, b, usage={"prompt_tokens": -1}),
        "error-with-200": {"error": {"message": "it broke", "code": 502}},
        "deep": b"[" * 100_000,
        "truncated": good[:-1],
    }
    rows = {name: whole(body) for name, body in bodies.items()}
    rows["cut"] = Reply([good[:40], Cut()], length=len(good))
    rows["html"] = Reply([b"<html>"], content_type="text/html")
    rows["stream"] = stream(b"data: {}\n\n")
    rows["endless"] = Reply([b" " * (1 << 20)] * 3)
    return rows


def native_faults() -> dict[str, Reply]:
    """Give the same for Workers AI's native endpoint."""
    good = native(*VECTORS)
    return {
        "failed": whole(native_error(5000, "it broke")),
        "no-result": whole({"success": True}),
        "other-shape": whole(native(*VECTORS, shape=[2, 4])),
        "one-too-few": whole(native(VECTORS[0])),
        "several-sizes": whole(native(VECTORS[0], VECTORS[1][:2], shape=[2, 3])),
        "too-large": whole(native((1e39,), (0.5,))),
        "not-json": whole(b"<html>"),
        "cut": whole(json.dumps(good).encode()[:-5]),
    }
