"""Grammars that force an answer to be calls of declared tools, or to be either that or text.

Calls are JSON objects with name and parameters, which the parser reads back whatever the model;
every schema is embedded whole, so that its references resolve in itself. Refuses a schema that
doesn't describe an object. Whether a schema can be enforced is found out when it is compiled.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any, Literal

from outrider.errors import InvalidRequest
from outrider.text.schema_check import UnenforceableSchema, check_schema
from outrider.text.schema_formats import make_formats_exact
from outrider.types import Grammar, NamedTool, Tool

# A model that doesn't find the end of a list would fill its whole context with calls.
MAX_PARALLEL_CALLS = 32
# llguidance's options in a schema: one way to write white space, so that none is made up.
_OPTIONS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}

# What an answer begins with if it is calls, and text never does, not behind white space either: so
# whoever looks for calls there finds none that weren't enforced.
CALL_BEGINNINGS = "{[<"
FORMED_CALL_BEGINNINGS = "[<"  # if the text is an object
_TEXT = r"/[ \t\r\n\f\v]+|[ \t\r\n\f\v]*[^ \t\r\n\f\v{\[<](.|\n)*/"
_TAGGED = r'"<tool_call>\n" call "\n</tool_call>"'


def tool_grammar(
    tools: Sequence[Tool],
    choice: Literal["auto", "required"] | NamedTool,
    parallel: bool,
    form: Grammar | None = None,
) -> Grammar:
    """Give the Lark grammar of one call, or if `parallel` of a list of at least one.

    With the choice auto an answer may also be text, one call without a list around it, or calls
    in the tags that ChatML's models write. If the text has a `form`, which is an object, calls are
    in a list or in tags: so the first character says which of the two an answer is.
    """
    rules = [
        f"call_{index}: {_lark_string(_head(tool))} %json {_schema_json(index, tool)} "
        + _lark_string("}")
        for index, tool in enumerate(tools)
        if not isinstance(choice, NamedTool) or tool.name == choice.name
    ]
    if not rules:
        named = f" named {choice.name}" if isinstance(choice, NamedTool) else ""
        raise InvalidRequest(
            f"tool_choice asks for a call but tools has none{named}; declare it", "tool_choice"
        )
    calls = " | ".join(rule.partition(":")[0] for rule in rules)
    more = MAX_PARALLEL_CALLS - 1
    in_list = f'"[" call (", " call){{0,{more}}} "]"'
    start = in_list if parallel else "call"
    if choice == "auto" and form is not None:
        start = f"form | {_TAGGED} | " + (in_list if parallel else '"[" call "]"')
        rules.append(f"form: %json {_form_json(form)}")
    elif choice == "auto":
        start = f"TEXT? | call | {_TAGGED}"
        if parallel:
            start += f' | {in_list} | {_TAGGED} ("\\n" {_TAGGED}){{1,{more}}}'
        rules.append(f"TEXT: {_TEXT}")
    return Grammar("lark", "\n".join((f"start: {start}", f"call: {calls}", *rules)))


def _head(tool: Tool) -> str:
    return f'{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "parameters": '


def _schema_json(index: int, tool: Tool) -> str:
    """Write a tool's schema for `%json`; arguments are always an object."""
    schema: dict[str, Any] = dict(tool.parameters)
    kind = schema.get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        param = f"tools[{index}].function.parameters"
        raise InvalidRequest(
            f"{param} describes type {json.dumps(kind)}; parameters are an object", param
        )
    schema["type"] = "object"
    try:
        check_schema(schema)
        schema = copy.deepcopy(schema)  # the prompt shows the tool as it was declared
        make_formats_exact(schema)
    except (UnenforceableSchema, RecursionError) as error:
        param = f"tools[{index}].function.parameters"
        raise InvalidRequest(f"{param} can't be enforced: {error}", param) from error
    schema["x-guidance"] = _OPTIONS
    return json.dumps(schema, ensure_ascii=False)


def _form_json(form: Grammar) -> str:
    """Write the schema of a text that may stand for calls, which has to be an object's."""
    schema = json.loads(form.source) if form.kind == "json_schema" else None
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise InvalidRequest(
            f"{form.param} must be a JSON Schema of type object if tools may be called instead; "
            "change it or send tool_choice none",
            form.param,
        )
    try:
        check_schema(schema)
        make_formats_exact(schema)
    except (UnenforceableSchema, RecursionError) as error:
        raise InvalidRequest(f"{form.param} can't be enforced: {error}", form.param) from error
    return json.dumps(schema | {"x-guidance": _OPTIONS}, ensure_ascii=False)


def _lark_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
