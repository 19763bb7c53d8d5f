"""Schemas that would be compiled without being enforced are refused with keyword and path."""

from __future__ import annotations

from typing import Any

import pytest

from outrider.errors import InvalidRequest
from outrider.text.schema_check import UNENFORCED, UnenforceableSchema, check_schema
from outrider.text.tool_grammar import tool_grammar
from outrider.types import Tool

DATE = {"type": "string", "format": "date"}
LATER = "https://json-schema.org/draft/2020-12/schema"

REFUSED: dict[str, tuple[Any, str]] = {
    "in a property": ({"properties": {"a b": {"not": {}}}}, 'not at $.properties["a b"] isn'),
    "in a list": ({"anyOf": [{}, {"contains": {}}]}, "contains at $.anyOf[1] isn't supported"),
    "in items": ({"items": {"uniqueItems": True}}, "uniqueItems at $.items isn't supported"),
    "in old items": ({"items": [{}, {"if": {}}]}, "if at $.items[1] isn't supported"),
    "behind a reference": (
        {"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/b"}}, "b": {"not": {}}}},
        "not at $.$defs.b isn't supported",
    ),
    "behind an anchor": (
        {"items": {"$ref": "#x"}, "$defs": {"a": {"$anchor": "x", "not": {}}}},
        "not at $.$defs.a isn't supported",
    ),
    "format alone": ({"format": "date"}, 'format at $ needs "type": "string" beside it'),
    "format of several": ({**DATE, "type": ["string", "integer"]}, "format at $ needs"),
    "unknown format": ({**DATE, "format": "regex"}, 'format at $ is "regex", which isn\'t supp'),
    "no format": ({**DATE, "format": 5}, "format at $ is 5"),
    "remote": ({"items": {"$ref": "other.json"}}, '$ref at $.items is "other.json"; references'),
    "missing": ({"$ref": "#/$defs/a"}, '$ref at $ is "#/$defs/a", which isn\'t there'),
    "no reference": ({"$ref": 5}, "$ref at $ is 5; references"),
    "sibling": ({"$ref": "#", "type": "object"}, "type at $ stands beside $ref, where drafts diff"),
    "nested id": ({"items": {"$id": "a"}}, "$id at $.items isn't supported inside of a schema"),
    "unknown draft": (
        {"$schema": "https://example.com/"},
        '$schema at $ is "https://example.com/"',
    ),
    "half a count": ({"maxItems": 2.0}, "maxItems at $ must be a whole number"),
    "no count": ({"minProperties": True}, "minProperties at $ must be a whole number"),
    "unknown type": ({"type": ["any"]}, 'type at $ is "any", which is no type'),
    "no type": ({"type": 5}, "type at $ is 5, which is no type"),
    "repeated keys": ({"minProperties": 2}, "minProperties at $ isn't supported where other prop"),
    "too many": ({"minProperties": 2, "required": ["a"]}, "minProperties at $ isn't supported"),
}


@pytest.mark.parametrize(("schema", "message"), REFUSED.values(), ids=REFUSED)
def test_keyword_and_path_are_named(schema: Any, message: str) -> None:
    with pytest.raises(UnenforceableSchema) as caught:
        check_schema(schema)
    assert message in str(caught.value)


@pytest.mark.parametrize("keyword", sorted(UNENFORCED))
def test_keywords_that_nothing_enforces_are_refused(keyword: str) -> None:
    with pytest.raises(UnenforceableSchema):
        check_schema({"type": "object", "properties": {"a": {keyword: {}}}})


ACCEPTED: dict[str, Any] = {
    "boolean": True,
    "names of properties": {"properties": {keyword: {} for keyword in UNENFORCED}},
    "values": {"enum": [{"not": 1}], "const": {"if": 1}, "default": {"not": 1}},
    "unused definitions": {"$defs": {"a": {"not": {}}}, "definitions": {"b": {"if": {}}}},
    "itself": {"items": {"$ref": "#"}},
    "in circles": {"$ref": "#/$defs/a", "$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}},
    "escaped": {"$ref": "#/$defs/a~1b%20c", "$defs": {"a/b c": DATE}},
    "by index": {"anyOf": [DATE, {"$ref": "#/anyOf/0"}]},
    "anchor": {"$anchor": "x", "items": {"$ref": "#x"}},
    "annotations": {"$ref": "#/$defs/a", "description": "x", "default": 1, "$defs": {"a": {}}},
    "siblings of a later draft": {"$schema": LATER, "items": {"$ref": "#", "type": "array"}},
    "root id": {"$id": "https://example.com/x", "type": "object"},
    "date or null": {**DATE, "type": ["string", "null"]},
    "implied count": {"minProperties": 2, "required": ["a", "b"]},
    "closed count": {"minProperties": 2, "properties": {"a": {}}, "additionalProperties": False},
    "one": {"minProperties": 1},
    "odd values": {"properties": 5, "items": 3, "anyOf": {}, "required": 1, "type": []},
}


@pytest.mark.parametrize("schema", ACCEPTED.values(), ids=ACCEPTED)
def test_what_the_compiler_enforces_or_refuses_itself_is_left_to_it(schema: Any) -> None:
    check_schema(schema)


def test_tools_are_held_to_the_same() -> None:
    tools = [Tool("a"), Tool("b", parameters={"properties": {"x": {"not": {}}}})]
    with pytest.raises(InvalidRequest, match=r"not at \$\.properties\.x isn't supported") as caught:
        tool_grammar(tools, "required", parallel=True)
    assert caught.value.param == "tools[1].function.parameters"
