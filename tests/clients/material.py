"""What all clients send: questions, a tool, a schema, a picture, texts to embed."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

CITIES = ["Paris", "Rome", "Lima"]
QUESTION = "What is the weather in Rome?"
WEATHER_RESULT = "sunny, 24 degrees"
WEATHER_PARAMETERS: Any = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": CITIES, "description": "a city"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city.",
        "parameters": WEATHER_PARAMETERS,
    },
}
NAMED: Any = {"type": "function", "function": {"name": "get_weather"}}
COLOURS = ["red", "green", "blue"]
SCHEMA: Any = {
    "type": "object",
    "properties": {
        "colour": {"type": "string", "enum": COLOURS},
        "is_warm": {"type": "boolean"},
    },
    "required": ["colour", "is_warm"],
    "additionalProperties": False,
}
FORMAT: Any = {
    "type": "json_schema",
    "json_schema": {"name": "colour", "strict": True, "schema": SCHEMA},
}
# Lines of a batch: one is answered, one is refused.
BATCH_LINES = [
    {
        "custom_id": name,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "smollm2-135m-instruct",
            "messages": [{"role": "user", "content": "Name a river."}],
            "max_tokens": 8,
            "temperature": temperature,
        },
    }
    for name, temperature in (("good", 0), ("bad", 3))
]
TEXTS = ["The tide rises.", "The moon pulls the sea.", "Bread needs yeast."]
NUM_DIMENSIONS = 384  # of all-minilm-l6-v2
ACCOUNT = "0123456789abcdef0123456789abcdef"


def user(text: str) -> Any:
    """Give a conversation of one message."""
    return [{"role": "user", "content": text}]


def picture(side: int = 24) -> bytes:
    """Give a red square as PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    rows = (b"\0" + b"\xe0\x20\x20" * side) * side
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


PICTURE_URL = f"data:image/png;base64,{base64.b64encode(picture()).decode()}"
LOOK: Any = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": PICTURE_URL}},
        ],
    }
]


def check_colour(value: Any) -> None:
    """Make sure that an answer keeps to `SCHEMA`."""
    assert value.keys() == {"colour", "is_warm"}
    assert value["colour"] in COLOURS
    assert type(value["is_warm"]) is bool


def check_vectors(vectors: list[list[float]]) -> None:
    """Make sure that vectors say what the texts say: the first two are close."""
    assert [len(vector) for vector in vectors] == [NUM_DIMENSIONS] * len(TEXTS)

    def dot(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    first, second, third = vectors
    assert 0.99 < dot(first, first) < 1.01
    assert dot(first, second) > dot(first, third) + 0.1
