"""Grammars of calls: what llguidance lets through is what the parser reads back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.errors import InvalidRequest
from outrider.text.tool_calls import CallPiece, TextPiece, ToolCallParser
from outrider.text.tool_enforced import EnforcedCalls
from outrider.text.tool_grammar import MAX_PARALLEL_CALLS, tool_grammar
from outrider.types import Grammar, NamedTool, Tool

llguidance = pytest.importorskip("llguidance")

WEATHER = Tool(
    "get_weather",
    "",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string", "minLength": 2},
            "unit": {"enum": ["°C", "°F"]},
            "days": {"$ref": "#/$defs/days"},
        },
        "required": ["city"],
        "additionalProperties": False,
        "$defs": {"days": {"type": "integer", "minimum": 1, "maximum": 7}},
    },
)
NODE = Tool(
    "node",
    "",
    {
        "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["next"],
        "additionalProperties": False,
    },
)
ODD = Tool('na"mé\\', "", {"type": ["object", "null"], "additionalProperties": {"type": "number"}})
TOOLS = [WEATHER, NODE, Tool("now"), ODD]

EOS = 256


class Bytes:
    """A tokenizer whose tokens are bytes."""

    eos_token_id = EOS
    bos_token_id = None
    tokens = (*(bytes([byte]) for byte in range(256)), b"<eos>")
    special_token_ids = (EOS,)

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


TOKENIZER = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Bytes()), n_vocab=257)


def matcher(grammar: Grammar) -> Any:
    assert grammar.kind == "lark"
    result = llguidance.LLMatcher(
        TOKENIZER, llguidance.LLMatcher.grammar_from_lark(grammar.source), log_level=0
    )
    assert not result.is_error(), result.get_error()
    return result


def is_accepted(grammar: Grammar, text: str) -> bool:
    state = matcher(grammar)
    data = list(text.encode())
    return state.try_consume_tokens(data) == len(data) and bool(state.is_accepting())


def calls_of(text: str) -> list[tuple[str, Any]]:
    parser = ToolCallParser(TOOLS)
    pieces = parser.push(text) + parser.finish()
    assert all(isinstance(piece, CallPiece) for piece in pieces)
    return [(p.name, json.loads(p.arguments)) for p in pieces if isinstance(p, CallPiece)]


def written(*calls: tuple[str, Any]) -> str:
    texts = [
        json.dumps({"name": name, "parameters": value}, ensure_ascii=False) for name, value in calls
    ]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


VALID: list[tuple[str, Any]] = [
    ("get_weather", {"city": "Zürich"}),
    ("get_weather", {"city": 'a"b\\\n', "unit": "°F", "days": 7}),
    ("node", {"next": None}),
    ("node", {"next": {"next": {"next": None}}}),
    ("now", {}),
    ("now", {"any": [1, {"thing": None}]}),
    ('na"mé\\', {"x": -1.5e3}),
]
INVALID: list[str] = [
    "",
    "The weather",
    written(("get_weather", {})),
    written(("get_weather", {"city": "Z"})),
    written(("get_weather", {"city": "Zürich", "unit": "K"})),
    written(("get_weather", {"city": "Zürich", "days": 8})),
    written(("get_weather", {"city": "Zürich", "more": 1})),
    written(("node", {"next": 1})),
    written(("now", [])),
    written(("unknown", {})),
    written(('na"mé\\', None)),
    written(("now", {})) + " ",
    written(("now", {})) + written(("now", {})),
    '{"name": "now", "parameters":  {}}',
    '{"name": "now"}',
    "[]",
]


@pytest.mark.parametrize("call", VALID)
def test_a_valid_call_is_let_through_and_read_back(call: tuple[str, Any]) -> None:
    assert is_accepted(tool_grammar(TOOLS, "required", False), written(call))
    assert is_accepted(tool_grammar(TOOLS, NamedTool(call[0]), False), written(call))
    assert is_accepted(tool_grammar(TOOLS, "required", True), f"[{written(call)}]")
    assert calls_of(written(call)) == calls_of(f"[{written(call)}]") == [call]


@pytest.mark.parametrize("text", INVALID)
def test_anything_else_is_not(text: str) -> None:
    assert not is_accepted(tool_grammar(TOOLS, "required", False), text)
    assert not is_accepted(tool_grammar(TOOLS, "required", True), f"[{text}]")
    assert not is_accepted(tool_grammar(TOOLS, "required", True), text)


def test_several_calls_need_to_be_allowed() -> None:
    text = written(*VALID)
    assert is_accepted(tool_grammar(TOOLS, "required", True), text)
    assert not is_accepted(tool_grammar(TOOLS, "required", False), text)
    assert calls_of(text) == VALID


def test_a_list_of_calls_comes_to_an_end() -> None:
    grammar = tool_grammar(TOOLS, "required", True)
    call = written(("now", {}))
    assert is_accepted(grammar, f"[{', '.join([call] * MAX_PARALLEL_CALLS)}]")
    assert not is_accepted(grammar, f"[{', '.join([call] * (MAX_PARALLEL_CALLS + 1))}]")


def test_a_named_tool_is_the_only_one() -> None:
    grammar = tool_grammar(TOOLS, NamedTool("now"), True)
    assert is_accepted(grammar, f"[{written(('now', {}))}]")
    assert not is_accepted(grammar, f"[{written(('node', {'next': None}))}]")


@settings(max_examples=30, deadline=None)
@given(parallel=st.booleans(), data=st.data())
def test_whatever_the_grammar_lets_through_is_read_back(
    parallel: bool, data: st.DataObject
) -> None:
    """Walks through the grammar at random, as a model without any sense would."""
    state = matcher(tool_grammar(TOOLS, "required", parallel))
    output = bytearray()
    while not state.is_stopped():
        mask = state.compute_logit_bias()
        allowed = [byte for byte in range(257) if mask[byte]]
        # Ends what can be ended, so that the walk does.
        closing = [b for b in allowed if b in (EOS, *b'"}]')]
        choices = closing if closing and len(output) > 40 else allowed
        token = data.draw(st.sampled_from(choices))
        assert state.consume_token(token)
        if token != EOS:
            output.append(token)
        if len(output) > 2000:
            return
    calls = calls_of(output.decode())
    assert calls
    assert all(isinstance(arguments, dict) for _, arguments in calls)


@pytest.mark.parametrize("choice", ["required", NamedTool("other")])
def test_a_choice_without_a_tool_is_refused(choice: Any) -> None:
    tools = [] if choice == "required" else TOOLS
    with pytest.raises(InvalidRequest, match="declare it") as caught:
        tool_grammar(tools, choice, False)
    assert caught.value.param == "tool_choice"


@pytest.mark.parametrize("kind", ["dict", "array", ["string", "null"], None])
def test_parameters_that_are_no_object_are_named(kind: Any) -> None:
    tools = [WEATHER, Tool("f", "", {"type": kind})]
    with pytest.raises(InvalidRequest, match="are an object") as caught:
        tool_grammar(tools, "required", False)
    assert caught.value.param == "tools[1].function.parameters"


def test_a_schema_cant_loosen_the_grammar() -> None:
    tool = Tool("f", "", {**WEATHER.parameters, "x-guidance": {"lenient": True}})
    grammar = tool_grammar([tool], "required", False)
    assert is_accepted(grammar, written(("f", {"city": "Zürich"})))
    assert not is_accepted(grammar, '{"name": "f", "parameters": {  "city": "Zürich"}}')


TAGGED = "<tool_call>\n{}\n</tool_call>"
TEXTS = [
    "",
    " \n",
    "Plain text.",
    "\n\nSome {braces}, [lists] and <b>tags</b>\nlater, even " + written(("now", {"free": 1})),
    "`" + written(("unknown", {})) + "`",
    "now()",
    "\u00a0{not a call}",
    "é",
]


def enforced(text: str) -> tuple[str, list[tuple[str, str]]]:
    """Give text and calls of an answer that a grammar held, with arguments as they are."""
    reader = EnforcedCalls()
    texts: list[str] = []
    calls: dict[int, list[str]] = {}
    for char in text:
        for piece in reader.push(char):
            if isinstance(piece, TextPiece):
                texts.append(piece.text)
                continue
            assert piece.is_start == bool(piece.name) == (piece.call_index not in calls)
            calls.setdefault(piece.call_index, [piece.name, ""])[1] += piece.arguments
    assert list(calls) == list(range(len(calls)))
    return "".join(texts), [(name, arguments) for name, arguments in calls.values()]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("parallel", [False, True])
def test_with_the_choice_auto_an_answer_may_be_text(text: str, parallel: bool) -> None:
    assert is_accepted(tool_grammar(TOOLS, "auto", parallel), text)
    assert enforced(text) == (text, [])


@pytest.mark.parametrize("call", VALID)
def test_with_the_choice_auto_valid_calls_are_let_through(call: tuple[str, Any]) -> None:
    one, many = (tool_grammar(TOOLS, "auto", parallel) for parallel in (False, True))
    text = written(call)
    for form in (text, TAGGED.format(text)):
        assert is_accepted(one, form) and is_accepted(many, form)
    several = [f"[{text}]", f"[{text}, {text}]", "\n".join([TAGGED.format(text)] * 2)]
    for form in several:
        assert is_accepted(many, form) and not is_accepted(one, form)
    arguments = json.dumps(call[1], ensure_ascii=False)
    for form, count in zip([text, *several], [1, 1, 2, 2], strict=True):
        assert enforced(form) == ("", [(call[0], arguments)] * count)


@pytest.mark.parametrize("space", ["", " ", "\n", "\t\r\f\v"])
@pytest.mark.parametrize(
    "text", [*INVALID[2:], "{", "[", "<", "{}", "<b>", "<tool_call>", "[now()]"]
)
def test_with_the_choice_auto_nothing_else_begins_as_a_call(space: str, text: str) -> None:
    for parallel in (False, True):
        grammar = tool_grammar(TOOLS, "auto", parallel)
        for form in (text, TAGGED.format(text)):
            assert not is_accepted(grammar, space + form)
    if space:
        assert not is_accepted(tool_grammar(TOOLS, "auto", True), space + written(VALID[0]))


@settings(max_examples=40, deadline=None)
@given(choice=st.sampled_from(["auto", "required"]), parallel=st.booleans(), data=st.data())
def test_what_a_grammar_lets_through_is_text_or_calls_wherever_it_is_cut(
    choice: Any, parallel: bool, data: st.DataObject
) -> None:
    state = matcher(tool_grammar(TOOLS, choice, parallel))
    output = bytearray()
    while not state.is_stopped() and len(output) < 400:
        mask = state.compute_logit_bias()
        allowed = [byte for byte in range(257) if mask[byte]]
        likely = [b for b in allowed if b in (*b"{[<",)] if not output else []
        closing = [b for b in allowed if b in (EOS, *b'"}]')] if len(output) > 40 else []
        token = data.draw(st.sampled_from(likely or closing or allowed))
        assert state.consume_token(token)
        if token != EOS:
            output.append(token)
    text = output.decode("utf-8", "ignore")
    content, calls = enforced(text)
    if text and text[0] not in "{[<":
        assert (content, calls) == (text, [])
        return
    assert content == ""
    whole = calls if state.is_stopped() else calls[:-1]
    assert calls_of(text)[: len(whole)] == [(name, json.loads(args)) for name, args in whole]
    cut = data.draw(st.integers(0, len(text)))
    _, begun = enforced(text[:cut])
    for (name, arguments), (whole_name, whole_arguments) in zip(begun, calls, strict=False):
        assert name == whole_name
        assert whole_arguments.startswith(arguments)


# The form of a text beside calls.

FORM = Grammar("json_schema", '{"type":"object","properties":{"a":{"type":"integer"}}}', "f")


def test_a_form_beside_tools_leaves_calls_in_lists_and_tags_only() -> None:
    grammar = tool_grammar([Tool("f")], "auto", True, FORM)
    start = grammar.source.partition("\n")[0]
    assert start.startswith('start: form | "<tool_call>')
    assert '"[" call (", " call){0,31} "]"' in start
    single = tool_grammar([Tool("f")], "auto", False, FORM).source.partition("\n")[0]
    assert single.endswith('| "[" call "]"')


@pytest.mark.parametrize(
    "form",
    [
        Grammar("regex", "a", "f"),
        Grammar("lark", "start: A", "f"),
        Grammar("json_schema", '{"type":"array"}', "f"),
        Grammar("json_schema", "true", "f"),
        Grammar("json_schema", '{"anyOf":[]}', "f"),
    ],
)
def test_a_form_that_is_no_object_is_refused_beside_tools(form: Grammar) -> None:
    with pytest.raises(InvalidRequest) as caught:
        tool_grammar([Tool("f")], "auto", True, form)
    assert caught.value.param == "f"
    assert "tool_choice none" in caught.value.message
    assert tool_grammar([Tool("f")], "required", True, form)


@pytest.mark.parametrize(
    ("text", "is_fine"),
    [
        ('{"a": 1}', True),
        ("{}", True),
        ('[{"name": "f", "parameters": {}}]', True),
        ('<tool_call>\n{"name": "f", "parameters": {}}\n</tool_call>', True),
        ('{"a": "1"}', False),
        ("text", False),
        ("", False),
    ],
)
def test_an_answer_with_a_form_is_an_object_or_calls(text: str, is_fine: bool) -> None:
    assert is_accepted(tool_grammar([Tool("f")], "auto", True, FORM), text) is is_fine
