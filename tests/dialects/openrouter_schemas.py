"""OpenRouter's own OpenAPI file, where the machine has it: its schemas as validators.

The file isn't ours to copy; OPENROUTER_OPENAPI names it, else it is looked for beside the
repository. Tests that need it are skipped without it.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest

BESIDE = Path(__file__).parents[3] / "shared" / "data" / "openrouter-openapi.yaml"
PATH = Path(os.environ.get("OPENROUTER_OPENAPI", BESIDE))


@cache
def document() -> Any:
    yaml = pytest.importorskip("yaml")
    if not PATH.exists():
        pytest.skip("OpenRouter's OpenAPI file isn't here; OPENROUTER_OPENAPI names it")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(PATH.read_text(encoding="utf-8"), Loader=loader)


@cache
def _validator(name: str) -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    root = {"$ref": f"#/components/schemas/{name}", "components": document()["components"]}
    return jsonschema.Draft202012Validator(root)


def check(value: Any, name: str) -> None:
    """Fail unless a value is what the schema of this name describes."""
    _check(_validator(name), value)


def check_inline(value: Any, path: str) -> None:
    """Fail unless a value is what the answer to GET `path` describes, where it has no name."""
    answer = document()["paths"][path]["get"]["responses"]["200"]
    schema = {**answer["content"]["application/json"]["schema"], "components": {}}
    jsonschema = pytest.importorskip("jsonschema")
    _check(jsonschema.Draft202012Validator(schema), value)


def _check(validator: Any, value: Any) -> None:
    errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]
    assert not errors, errors
