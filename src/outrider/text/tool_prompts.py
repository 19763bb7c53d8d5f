"""What a model is told about the tools it may call, in the manner it was trained on.

One text per family, put into the system turn. The wording is ours; the shape of the definitions
and of the answer that is asked for is that of the family's published prompts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from outrider.text.conversation import definition, definitions_json
from outrider.types import Tool

_TAG = re.compile("(</?(?:tools|tool_call|tool_response)>)")


def llama4_tools(tools: Sequence[Tool]) -> str:
    """Ask for a Python list of calls (Llama 3.2's and 4's zero-shot function calling)."""
    return (
        "You can call the functions listed below. Answer directly when you don't need them.\n\n"
        "To call functions, reply with nothing but a list of calls in this form:\n"
        "[func_name1(param_name1=value1, param_name2=value2), func_name2(param_name3=value3)]\n"
        "Use only listed functions and only their own parameters. Write values as Python "
        "literals. If a required value is missing from the conversation, ask for it; don't make "
        "one up. The results come back in the next turn.\n\n"
        "Here is a list of functions in JSON format that you can invoke.\n\n"
        + definitions_json([definition(tool) for tool in tools], indent=4)
    )


def llama3_tools(tools: Sequence[Tool]) -> str:
    """Ask for a JSON object per call (Llama 3.1's JSON based tool calling)."""
    shown = "\n\n".join(definitions_json(definition(tool), indent=4) for tool in tools)
    return (
        "You have access to the functions below. When one of them helps, reply with nothing but "
        'a JSON object for the call, in the form {"name": function name, "parameters": '
        "dictionary of argument names and their values}. Don't use variables.\n\n" + shown
    )


def chatml_tools(tools: Sequence[Tool]) -> list[str]:
    """Ask for <tool_call> tags around a JSON object (as Hermes, Qwen and SmolLM2 do).

    Gives parts; each tag is one of its own.
    """
    shown = "\n".join(
        definitions_json({"type": "function", "function": definition(tool)}) for tool in tools
    )
    return [
        *cut_tags(
            "# Tools\n\n"
            "You may call one or more functions to help with the user's request. Their signatures "
            "stand within <tools></tools> tags:\n<tools>\n"
        ),
        shown,
        *cut_tags(
            "\n</tools>\n\n"
            "For each call, write a JSON object with the function's name and its arguments within "
            "<tool_call></tool_call> tags:\n<tool_call>\n"
            '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
        ),
    ]


class Tag(str):
    """A tag that some ChatML models have as a token, which stands for nothing a user writes."""


def cut_tags(text: str) -> list[str]:
    """Cut our own text at its tags."""
    parts = _TAG.split(text)
    return [Tag(part) if index % 2 else part for index, part in enumerate(parts)]
