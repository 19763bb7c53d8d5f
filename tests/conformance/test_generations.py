"""A real model, heated until it writes nonsense, never breaks its schema."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.json_schema import grammar_of
from outrider import config
from outrider.engine.engine import Engine
from outrider.engine.loader import load_engine
from outrider.engine.protocol import Submit
from outrider.types import SamplingParams

TEMPERATURE = 1.5
CHOICES = 50  # of each schema
MAX_TOKENS = 120

WORD = {"type": "string", "maxLength": 12}
SCHEMAS: dict[str, dict[str, Any]] = {
    "a person": {
        "type": "object",
        "properties": {"name": WORD, "age": {"type": "integer", "minimum": 0, "maximum": 130}},
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    "optional properties": {
        "type": "object",
        "properties": {"a": {"type": "boolean"}, "b": {"type": "number"}, "c": WORD},
        "additionalProperties": False,
        "minProperties": 1,
    },
    "a choice": {"enum": ["red", "green", 3, None, [1, 2], {"deep": True}]},
    "numbers in bounds": {
        "type": "array",
        "items": {"type": "number", "exclusiveMinimum": -5, "maximum": 7.25},
        "minItems": 2,
        "maxItems": 5,
    },
    "multiples": {"type": "array", "items": {"type": "integer", "multipleOf": 7}, "maxItems": 6},
    "formats": {
        "type": "object",
        "properties": {
            "day": {"type": "string", "format": "date"},
            "host": {"type": "string", "format": "ipv4"},
            "id": {"type": "string", "format": "uuid"},
        },
        "required": ["day", "host", "id"],
        "additionalProperties": False,
    },
    "a pattern": {"type": "string", "pattern": "^(v[0-9]{1,3}|[A-F]{2,6})(-[a-z]+)?$"},
    "alternatives": {
        "anyOf": [
            {"type": "null"},
            {"type": "array", "items": {"anyOf": [WORD, {"type": "integer"}]}, "maxItems": 4},
            {"type": "object", "properties": {"ok": {"const": "é\n"}}, "required": ["ok"]},
        ]
    },
    "a tree": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "value": {"type": "integer", "minimum": -9, "maximum": 9},
                    "children": {
                        "type": "array",
                        "items": {"$ref": "#/$defs/node"},
                        "maxItems": 2,
                    },
                },
                "required": ["value", "children"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    },
    "a tuple": {
        "type": "array",
        "prefixItems": [WORD, {"type": "boolean"}, {"enum": ["x", "y"]}],
        "items": False,
        "minItems": 3,
    },
}


@pytest.fixture(scope="module")
def engine(model_path: Path) -> Engine:
    return load_engine(config.load({"model": str(model_path)}).engine).engine


def answers(engine: Engine, schema: dict[str, Any], seed: int) -> Iterator[tuple[str, str | None]]:
    """Give texts and finish reasons of what the model says."""
    assert engine.tokenizer is not None
    prompt = engine.tokenizer.encode(f"JSON for {json.dumps(schema)}:\n")
    params = SamplingParams(temperature=TEMPERATURE, seed=seed, max_tokens=MAX_TOKENS, n=CHOICES)
    engine.submit(Submit("r", (tuple(prompt),), params, grammar=grammar_of(schema)))
    texts, reasons = [""] * CHOICES, {}
    while engine.has_work:
        for output in engine.step():
            texts[output.index] += output.text
            reasons[output.index] = output.finish_reason
    assert engine.take_failed() == []
    return zip(texts, (reasons[index] for index in range(CHOICES)), strict=True)


def is_date(text: str) -> bool:
    """RFC 3339's full-date; Python's own dates have no year 0000, which has a 29 February.

    That day is let through in every year: docs/structured-output.md.
    """
    year, month, day = map(int, text.split("-"))
    is_leap_day = (month, day) == (2, 29)
    return len(text) == 10 and bool(is_leap_day or datetime.date(year or 2000, month, day))


@pytest.mark.slow
@pytest.mark.real_model
def test_no_answer_at_a_high_temperature_is_invalid(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    checker = jsonschema.FormatChecker(formats=("ipv4", "uuid"))
    checker.checks("date")(is_date)
    num_complete = 0
    for seed, (name, schema) in enumerate(SCHEMAS.items()):
        validator = jsonschema.Draft202012Validator(schema, format_checker=checker)
        distinct = set()
        for text, reason in answers(engine, schema, seed):
            assert reason in ("stop", "length"), name
            if reason == "length":  # cut, and said so: no answer that could be invalid
                continue
            validator.validate(json.loads(text))
            distinct.add(text)
            num_complete += 1
        assert len(distinct) > 1, f"{name}: nothing varies, so nothing was tried"
    with capsys.disabled():  # CI's log shows it
        print(f"{num_complete} of {CHOICES * len(SCHEMAS)} answers complete, all valid")
    assert num_complete >= 0.8 * CHOICES * len(SCHEMAS)
