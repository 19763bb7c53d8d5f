"""Schemas with answers that match them, for benchmarks: tools that people wrote, and hard ones.

The tools are those of BFCL v4 (package bfcl-eval), whose types have Python's or Java's names; the
answers are the first of each accepted value. The hard ones use what is costly to compile:
references, alternatives, patterns, formats and bounds. Owns no measurement.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from outrider.checkpoints.meta_tokenizer import meta_tokenizer_json
from outrider.text.tokenizer import Tokenizer

LLAMA4_VOCAB_SIZE = 202_048
FILES = ("simple_python", "multiple", "live_simple", "live_multiple")
TYPES = {"dict": "object", "float": "number", "tuple": "array", "String": "string"}
ANY_TYPE = "any"

Case = tuple[dict[str, Any], str]  # schema, answer

_NODE = {
    "type": "object",
    "properties": {
        "v": {"type": "integer"},
        "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
    },
    "required": ["v", "next"],
    "additionalProperties": False,
}
_LIST = {"$defs": {"node": _NODE}, "allOf": [{"$ref": "#/$defs/node"}]}
_ORDER = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4,8}$"},
        "placed": {"type": "string", "format": "date-time"},
        "mail": {"type": "string", "format": "email"},
        "total": {"type": "number", "minimum": 0, "maximum": 99999.99},
        "lines": {
            "type": "array",
            "minItems": 1,
            "maxItems": 20,
            "items": {
                "type": "object",
                "properties": {
                    "sku": {"type": "string", "minLength": 3, "maxLength": 12},
                    "count": {"type": "integer", "minimum": 1, "maximum": 999},
                    "note": {"anyOf": [{"type": "string", "maxLength": 200}, {"type": "null"}]},
                },
                "required": ["sku", "count", "note"],
                "additionalProperties": False,
            },
        },
        "state": {"enum": ["open", "paid", "shipped", "returned"]},
    },
    "required": ["id", "placed", "mail", "total", "lines", "state"],
    "additionalProperties": False,
}
_LINE = {"sku": "A-100-20", "count": 12, "note": "the blue one, as before; leave it at the door"}
HARD: tuple[tuple[dict[str, Any], Any], ...] = (
    (_LIST, {"v": 1, "next": {"v": -20, "next": {"v": 300, "next": None}}}),
    (
        _ORDER,
        {
            "id": "DE-20261121",
            "placed": "2026-11-21T14:30:00Z",
            "mail": "somebody@example.com",
            "total": 1234.5,
            "lines": [_LINE, {**_LINE, "note": None}, {**_LINE, "count": 1}],
            "state": "shipped",
        },
    ),
    ({"type": "object"}, {"any": [1, 2.5, {"thing": "goes", "and": [True, None]}], "é": "日本"}),
    (
        {"type": "array", "items": {"type": "string", "format": "uuid"}},
        ["f81d4fae-7dec-11d0-a765-00a0c91e6bf6"] * 3,
    ),
    ({"anyOf": [{"type": "string", "format": "ipv6"}, {"type": "integer", "multipleOf": 5}]}, 125),
)


def hard_cases() -> list[Case]:
    """Give schemas that are costly to compile."""
    return [(schema, json.dumps(answer, ensure_ascii=False)) for schema, answer in HARD]


def tool_cases() -> list[Case]:
    """Give the parameters of BFCL's functions, each once, with arguments for them."""
    spec = importlib.util.find_spec("bfcl_eval")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("bfcl-eval isn't installed; make bench-structured installs it")
    data = Path(spec.submodule_search_locations[0]) / "data"
    cases = {}
    for name in FILES:
        for schema, arguments in _calls(data, f"BFCL_v4_{name}.json"):
            cases.setdefault(json.dumps(schema), (schema, arguments))
    return list(cases.values())


def llama4_tokenizer() -> Tokenizer:
    """Build Meta's tokenizer of Llama 4 out of the package llama-models."""
    spec = importlib.util.find_spec("llama_models")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("llama-models isn't installed; make bench-structured installs it")
    path = Path(spec.submodule_search_locations[0]) / "llama4" / "tokenizer.model"
    return Tokenizer(meta_tokenizer_json(path, LLAMA4_VOCAB_SIZE))


def _calls(data: Path, file: str) -> Iterator[Case]:
    answers = {
        entry["id"]: entry["ground_truth"] for entry in _lines(data / "possible_answer" / file)
    }
    for entry in _lines(data / file):
        functions = {function["name"]: function["parameters"] for function in entry["function"]}
        for call in answers[entry["id"]]:
            for name, accepted in call.items():
                schema = _usual_types(functions[name])
                # Keys come in the order of the schema; "" stands for leaving an argument out.
                chosen = {
                    key: next(value for value in accepted[key] if value != "")
                    for key in schema.get("properties", {})
                    if any(value != "" for value in accepted.get(key, ()))
                }
                yield schema, json.dumps(chosen, ensure_ascii=False)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _usual_types(schema: Any) -> Any:  # noqa: ANN401
    if isinstance(schema, list):
        return [_usual_types(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    named = {key: _usual_types(value) for key, value in schema.items()}
    kind = named.get("type")
    if isinstance(kind, str):
        named["type"] = TYPES.get(kind, kind)
        if kind == ANY_TYPE:
            del named["type"]
    return named
