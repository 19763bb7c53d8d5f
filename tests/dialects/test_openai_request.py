"""Requests on OpenAI's wire: every field of both endpoints, its borders, and hostile bodies."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.dialects import openai_wire
from outrider.dialects.base import Decoded, Envelope
from outrider.dialects.openai import CHAT_COMPLETIONS, COMPLETIONS, OpenAi
from outrider.errors import InvalidRequest, RequestError, UnsupportedParameter
from outrider.types import Message, SamplingParams

ID = "7c2f0c1e"
ENVELOPE = Envelope(request_id=ID, created_s=5, cache_salt="s")
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
TEXT = {"model": "m", "prompt": "Hello"}
BODIES: dict[str, dict[str, Any]] = {CHAT_COMPLETIONS.name: CHAT, COMPLETIONS.name: TEXT}
BOTH = pytest.mark.parametrize("wire", [CHAT_COMPLETIONS, COMPLETIONS], ids=lambda wire: wire.name)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
wires = st.sampled_from([CHAT_COMPLETIONS, COMPLETIONS])


def decode(wire: OpenAi, **fields: Any) -> Decoded:
    body = BODIES[wire.name] | fields
    return wire.decode_request(json.dumps(body).encode(), ENVELOPE)


def sampling(wire: OpenAi, **fields: Any) -> SamplingParams:
    return decode(wire, **fields).request.sampling


def refusal(wire: OpenAi, **fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        decode(wire, **fields)
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("body", "tables"),
    [
        (
            openai_wire.ChatBody,
            (openai_wire.CHAT_MAPPED, openai_wire.CHAT_INERT, openai_wire.CHAT_REFUSED),
        ),
        (
            openai_wire.CompletionBody,
            (
                openai_wire.COMPLETION_MAPPED,
                openai_wire.COMPLETION_INERT,
                openai_wire.COMPLETION_REFUSED,
            ),
        ),
    ],
)
def test_every_field_is_in_exactly_one_table(body: Any, tables: tuple[Any, ...]):
    assert sorted(name for table in tables for name in table) == sorted(body.__struct_fields__)


NEUTRAL: list[tuple[OpenAi, str, list[Any], list[Any]]] = [
    (CHAT_COMPLETIONS, "store", [False], [True]),
    (CHAT_COMPLETIONS, "functions", [[]], [[{"name": "f"}]]),
    (CHAT_COMPLETIONS, "function_call", ["none", "auto"], [{"name": "f"}]),
    (CHAT_COMPLETIONS, "audio", [], [{"voice": "a", "format": "mp3"}]),
    (CHAT_COMPLETIONS, "modalities", [["text"]], [["text", "audio"], "text"]),
    (CHAT_COMPLETIONS, "web_search_options", [], [{}]),
    (CHAT_COMPLETIONS, "reasoning_effort", ["none"], ["low", "high"]),
    (CHAT_COMPLETIONS, "verbosity", ["medium"], ["low"]),
    (COMPLETIONS, "best_of", [1], [2]),
    (COMPLETIONS, "echo", [False], [True]),
    (COMPLETIONS, "suffix", [""], ["!"]),
]


def test_every_refused_field_has_a_row_here():
    names = {name for _, name, _, _ in NEUTRAL}
    assert names == {*openai_wire.CHAT_REFUSED, *openai_wire.COMPLETION_REFUSED}


@pytest.mark.parametrize(("wire", "name", "neutral", "others"), NEUTRAL)
def test_a_refused_field_is_accepted_with_a_neutral_value_only(
    wire: OpenAi, name: str, neutral: list[Any], others: list[Any]
):
    plain = decode(wire)
    for value in (None, *neutral):
        assert decode(wire, **{name: value}) == plain
    for value in others:
        error = refusal(wire, **{name: value})
        assert type(error) is UnsupportedParameter
        assert error.param == name and name in error.message


@BOTH
def test_inert_fields_change_nothing(wire: OpenAi):
    inert = {
        "user": "u",
        "metadata": {"a": [1]},
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "safety_identifier": "s",
        "service_tier": "flex",
    }
    assert inert.keys() == openai_wire.COMPLETION_INERT
    if wire is CHAT_COMPLETIONS:
        assert inert.keys() == openai_wire.CHAT_INERT
    assert decode(wire, **inert) == decode(wire)


@pytest.mark.parametrize(
    "content", ["one two", [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]]
)
def test_a_prediction_is_a_text_or_parts_of_one(content: Any):
    prediction = {"type": "content", "content": content}
    assert decode(CHAT_COMPLETIONS, prediction=prediction).request.prediction == "one two"
    assert decode(CHAT_COMPLETIONS).request.prediction == ""


@pytest.mark.parametrize(
    ("prediction", "param"),
    [
        ({"type": "text", "content": "a"}, "prediction.type"),
        (
            {"type": "content", "content": [{"type": "image", "text": "a"}]},
            "prediction.content[0].type",
        ),
        ({"type": "content", "content": [{"type": "text"}]}, "prediction.content[0].text"),
        ({"type": "content"}, "prediction.content"),
        ("a", "prediction"),
    ],
)
def test_another_prediction_is_refused_with_its_path(prediction: Any, param: str):
    error = refusal(CHAT_COMPLETIONS, prediction=prediction)
    assert type(error) is InvalidRequest
    assert error.param == param


@BOTH
def test_null_counts_as_absent(wire: OpenAi):
    required = {"model", "messages", "prompt"}
    fields = openai_wire.ChatBody if wire is CHAT_COMPLETIONS else openai_wire.CompletionBody
    nulls = {name: None for name in fields.__struct_fields__ if name not in required}
    assert decode(wire, **nulls) == decode(wire)


@BOTH
def test_an_unknown_field_is_refused_in_openais_words(wire: OpenAi):
    error = refusal(wire, top_z=1)
    assert error.message == "Unrecognized request argument supplied: top_z"
    assert error.param == "top_z"


def test_an_unknown_field_with_a_hostile_name_gives_one_short_line():
    error = refusal(CHAT_COMPLETIONS, **{"a\nb" + "c" * 10_000: 1})
    assert error.param is not None and error.param.startswith("a?bccc")
    assert len(error.message) < 200


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        (None, "messages"),
        ({}, "messages"),
        ([], "messages"),
        ([1], "messages[0]"),
        ([{}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": None}], "messages[0].content"),
        ([{"role": "user", "content": 1}], "messages[0].content"),
        ([{"role": "user", "content": "a"}, {"role": "robot", "content": "a"}], "messages[1].role"),
        ([{"role": "a\nb" * 100, "content": "a"}], "messages[0].role"),
        ([{"role": "user", "content": "a", "mood": "x"}], "messages[0].mood"),
        ([{"role": "user", "content": ["a"]}], "messages[0].content[0]"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url"}]}],
            "messages[0].content[1].image_url",
        ),
        ([{"role": "user", "content": [{"text": "a"}]}], "messages[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages[0].content[0].text"),
        (
            [{"role": "assistant", "content": "a", "function_call": {"name": "f"}}],
            "messages[0].function_call",
        ),
        ([{"role": "assistant", "content": "a", "audio": {"id": "1"}}], "messages[0].audio"),
    ],
)
def test_a_wrong_message_is_named_by_its_path(messages: Any, param: str):
    error = refusal(CHAT_COMPLETIONS, messages=messages)
    assert error.param == param and param in error.message


@pytest.mark.parametrize("name", ["model", "messages"])
def test_a_missing_field_is_named(name: str):
    body = {key: value for key, value in CHAT.items() if key != name}
    with pytest.raises(InvalidRequest) as caught:
        CHAT_COMPLETIONS.decode_request(json.dumps(body).encode(), ENVELOPE)
    assert caught.value.param == name


def test_messages_are_joined_texts_with_known_roles():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [
        {"role": "developer", "content": parts},
        {"role": "user", "content": "", "name": "Ann"},
        {"role": "assistant", "content": "c", "tool_calls": [], "refusal": None, "annotations": []}
        | {"provider_specific_fields": None},
        {"role": "tool", "content": "d", "tool_call_id": "1"},
    ]
    assert decode(CHAT_COMPLETIONS, messages=messages).request.messages == (
        Message("system", "ab"),
        Message("user", ""),
        Message("assistant", "c"),
        Message("tool", "d", tool_call_id="1"),
    )


HUGE = 10**400
WRONG: list[tuple[str, list[Any]]] = [
    ("temperature", [-0.1, 2.1, "1", True, HUGE]),
    ("top_p", [-0.1, 1.1, "1", HUGE]),
    ("n", [0, -1, 129, 1.5, True, 10**30, HUGE]),
    ("seed", [-(2**63) - 1, 2**64, 1.5, "1", HUGE]),
    ("frequency_penalty", [-2.1, 2.1, []]),
    ("presence_penalty", [-2.1, 2.1, {}]),
    ("max_tokens", [0, -1, 2**31, 1.5, HUGE]),
    ("top_k", [-1, 2**31, 1.5]),
    ("min_p", [-0.1, 1.1]),
    ("top_a", [-0.1, 1.1]),
    ("repetition_penalty", [0, -1, 1e7, HUGE]),
    ("ignore_eos", [1, "yes"]),
    ("logit_bias", [[], {"-1": 1}, {"a": 1}, {"": 1}, {"1.0": 1}, {"²": 1}, {"1" * 11: 1}]),
    ("logit_bias.5", []),
    ("stop", [1, ["a"] * 17]),
    ("stop[1]", []),
    ("stream", [1, "true"]),
    ("stream_options", [{}, {"include_usage": True}]),
    ("user", [1]),
]


@BOTH
@pytest.mark.parametrize(("name", "values"), WRONG)
def test_a_value_out_of_range_or_of_the_wrong_type_is_named(
    wire: OpenAi, name: str, values: list[Any]
):
    for value in values:
        assert refusal(wire, **{name: value}).param == name


@BOTH
def test_a_wrong_entry_of_a_list_is_named(wire: OpenAi):
    assert refusal(wire, stop=["a", ""]).param == "stop[1]"
    assert refusal(wire, stop=["a", "b" * 1025]).param == "stop[1]"
    assert refusal(wire, stop=["a", 1]).param == "stop[1]"
    assert refusal(wire, logit_bias={"5": 101}).param == "logit_bias.5"
    assert refusal(wire, logit_bias={str(i): 1 for i in range(1025)}).param == "logit_bias"


@BOTH
def test_the_borders_of_openais_ranges_are_legal(wire: OpenAi):
    for temperature in (0, 2):
        assert sampling(wire, temperature=temperature).temperature == temperature
    assert sampling(wire, top_p=1).top_p == 1
    assert 0 < sampling(wire, top_p=0).top_p < 1e-6
    assert sampling(wire, n=128).n == 128
    assert sampling(wire, logit_bias={"5": -100, "0": 100}).logit_bias == {5: -100.0, 0: 100.0}


@BOTH
@pytest.mark.parametrize(
    ("stop", "wanted"),
    [("a", ("a",)), (["a"], ("a",)), (["a", "b"], ("a", "b")), ("", ()), ([], ()), (None, ())],
)
def test_stop_has_many_forms(wire: OpenAi, stop: Any, wanted: tuple[str, ...]):
    assert sampling(wire, stop=stop).stop == wanted


@BOTH
def test_only_what_was_sent_is_given(wire: OpenAi):
    default = {"max_tokens"} if wire is COMPLETIONS else set()
    assert decode(wire).request.given == default
    assert decode(wire, temperature=1, seed=None).request.given == {"temperature"} | default


def test_a_chat_has_two_names_for_its_limit():
    assert sampling(CHAT_COMPLETIONS).max_tokens is None
    assert sampling(CHAT_COMPLETIONS, max_tokens=3).max_tokens == 3
    decoded = decode(CHAT_COMPLETIONS, max_completion_tokens=3)
    assert decoded.request.sampling.max_tokens == 3
    assert decoded.request.given == {"max_tokens"}
    error = refusal(CHAT_COMPLETIONS, max_tokens=3, max_completion_tokens=3)
    assert error.param == "max_tokens"
    for value in (0, -1, 2**31):
        error = refusal(CHAT_COMPLETIONS, max_completion_tokens=value)
        assert error.param == "max_completion_tokens"


def test_a_completion_has_16_tokens_unless_it_says_so():
    assert sampling(COMPLETIONS).max_tokens == 16
    assert sampling(COMPLETIONS, max_tokens=3).max_tokens == 3
    assert refusal(COMPLETIONS, max_completion_tokens=3).param == "max_completion_tokens"


def test_chat_logprobs_need_their_switch():
    assert sampling(CHAT_COMPLETIONS).logprobs is None
    assert sampling(CHAT_COMPLETIONS, logprobs=False).logprobs is None
    assert sampling(CHAT_COMPLETIONS, logprobs=True).logprobs == 0
    assert sampling(CHAT_COMPLETIONS, logprobs=True, top_logprobs=20).logprobs == 20
    for fields in ({"top_logprobs": 0}, {"top_logprobs": 2, "logprobs": False}):
        assert refusal(CHAT_COMPLETIONS, **fields).param == "top_logprobs"
    for value in (-1, 21, 1.5):
        assert refusal(CHAT_COMPLETIONS, logprobs=True, top_logprobs=value).param == "top_logprobs"


def test_completion_logprobs_are_a_number():
    assert sampling(COMPLETIONS, logprobs=0).logprobs == 0
    assert sampling(COMPLETIONS, logprobs=20).logprobs == 20
    for value in (-1, 21, True):
        assert refusal(COMPLETIONS, logprobs=value).param == "logprobs"


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("a", ("a",)),
        ("", ("",)),
        (["a"], ("a",)),
        (["a", ""], ("a", "")),
        ([1, 2], ((1, 2),)),
        ([[1, 2]], ((1, 2),)),
        ([[1, 2], [3]], ((1, 2), (3,))),
    ],
)
def test_prompts_have_many_forms(prompt: Any, wanted: tuple[Any, ...]):
    assert decode(COMPLETIONS, prompt=prompt).request.prompts == wanted


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        (None, "prompt"),
        (1, "prompt"),
        ([], "prompt"),
        (["a", 1], "prompt"),
        ([1, "a"], "prompt"),
        ([[1], "a"], "prompt"),
        ([1, [2]], "prompt"),
        ([True], "prompt[0]"),
        ([1.5], "prompt[0]"),
        ([0, -1], "prompt[1]"),
        ([2**31], "prompt[0]"),
        ([10**30], "prompt[0]"),
        ([HUGE], "prompt[0]"),
        ([[1], [None]], "prompt[1][0]"),
        ([["a"]], "prompt[0][0]"),
        (["a"] * 257, "prompt"),
    ],
)
def test_a_wrong_prompt_is_named_by_its_path(prompt: Any, param: str):
    assert refusal(COMPLETIONS, prompt=prompt).param == param


def test_prompts_times_choices_are_bounded():
    assert refusal(COMPLETIONS, prompt=["a"] * 129, n=2).param == "n"


# Hostile bodies.


@BOTH
@pytest.mark.parametrize(
    "field",
    [
        b'"temperature": NaN',
        b'"temperature": Infinity',
        b'"temperature": 1e999',
        b'"seed": ' + b"9" * 100_000,
        b'"metadata": ' + b"9" * 100_000,
        b'"user": "\\ud800"',
        b'"user": "\\udc00\\ud800"',
        b'"user": "\xff"',
        b'"user": "\xed\xa0\x80"',
        b'"user": "\n"',
        b'"\\ud800": 1',
        b'"metadata": ' + b"[" * 100_000 + b"]" * 100_000,
        b'"metadata": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'"x": ' + b"[" * 100_000 + b"]" * 100_000,
        b'"stream_options": {"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_a_hostile_field_is_the_callers_error(wire: OpenAi, field: bytes):
    body = json.dumps(BODIES[wire.name]).encode().removesuffix(b"}") + b", " + field + b"}"
    with pytest.raises(InvalidRequest):
        wire.decode_request(body, ENVELOPE)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from([*openai_wire.ChatBody.__struct_fields__, "prompt", "best_of", "x"])


@given(wires, st.dictionaries(names, json_values, max_size=4))
def test_any_body_is_read_or_refused(wire: OpenAi, fields: dict[str, Any]):
    try:
        decode(wire, **fields)
    except RequestError as error:
        assert 400 <= error.status < 500
