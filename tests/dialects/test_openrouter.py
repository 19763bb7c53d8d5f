"""OpenRouter's wire: the codec laws, exact forms, its own fields, and its own OpenAPI schemas."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialects.openrouter_schemas import check, document
from dialects.strategies import (
    ERRORS,
    GRAMMARS,
    ID,
    SAMPLING,
    calls,
    filled,
    logprobs,
    reasons,
    requests,
    texts,
    usages_of_predictions,
    with_open_end,
)
from outrider.dialects import openrouter_request
from outrider.dialects.base import Answer, Choice, Decoded, Envelope
from outrider.dialects.openrouter import CHAT_COMPLETIONS, COMPLETIONS, OpenRouter
from outrider.dialects.unknown_fields import MAX_NAMES
from outrider.errors import (
    EngineFailed,
    InvalidRequest,
    ModelNotFound,
    OutriderError,
    ProviderError,
    UnsupportedParameter,
)
from outrider.types import (
    Completed,
    Event,
    Finished,
    GenerationRequest,
    Message,
    SamplingParams,
    Started,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)

ENVELOPE = Envelope(request_id=ID, created_s=5, cache_salt="s")
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
TEXT = {"model": "m", "prompt": "Hello"}
BODIES: dict[str, dict[str, Any]] = {CHAT_COMPLETIONS.name: CHAT, COMPLETIONS.name: TEXT}
BOTH = pytest.mark.parametrize("wire", [CHAT_COMPLETIONS, COMPLETIONS], ids=lambda wire: wire.name)
wires = st.sampled_from([CHAT_COMPLETIONS, COMPLETIONS])
GENERATION = "gen-5-WSd6rN5BEqwtu3M9sr9L"
USAGE = {
    "prompt_tokens": 3,
    "completion_tokens": 2,
    "total_tokens": 5,
    "cost": 0,
    "is_byok": False,
    "prompt_tokens_details": {"cached_tokens": 1, "audio_tokens": 0},
    "cost_details": {
        "upstream_inference_cost": None,
        "upstream_inference_prompt_cost": 0,
        "upstream_inference_completions_cost": 0,
    },
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
OWN_SAMPLING = {
    **{name: values for name, values in SAMPLING.items() if name != "ignore_eos"},
    "repetition_penalty": st.floats(0, 2, exclude_min=True),
    "stop": st.lists(filled, min_size=1, max_size=4).map(tuple),
}


def decode(wire: OpenRouter, **fields: Any) -> Decoded:
    body = BODIES[wire.name] | fields
    return wire.decode_request(json.dumps(body).encode(), ENVELOPE)


def refusal(wire: OpenRouter, **fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        decode(wire, **fields)
    assert "\n" not in caught.value.message
    return caught.value


def streamed(wire: OpenRouter, events: list[Event], **fields: Any) -> list[Any]:
    """Give the chunks of a stream, which has to end with the end marker."""
    encoder = wire.stream_encoder(decode(wire, stream=True, **fields))
    data = b"".join(encoder.encode(event) for event in events).decode()
    *chunks, done, rest = data.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(chunk.removeprefix("data: ")) for chunk in chunks]


# The laws: what is written is read back.


@given(requests(is_chat=True, sampling=OWN_SAMPLING, forms=GRAMMARS).map(with_open_end))
def test_a_conversation_survives_the_wire(request: GenerationRequest):
    decoded = CHAT_COMPLETIONS.decode_request(CHAT_COMPLETIONS.encode_request(request), ENVELOPE)
    assert decoded.request == request
    assert decoded.ignored == ()


@given(requests(is_chat=False, sampling=OWN_SAMPLING), wires)
def test_a_prompt_survives_the_wire(request: GenerationRequest, reader: OpenRouter):
    decoded = reader.decode_request(COMPLETIONS.encode_request(request), ENVELOPE)
    assert decoded.request == request


@given(st.data(), wires, texts, usages_of_predictions)
def test_an_answer_survives_the_wire(
    data: st.DataObject, wire: OpenRouter, model: str, usage: Usage
):
    is_chat = wire is CHAT_COMPLETIONS
    tool_calls = st.lists(calls, max_size=2 if is_chat else 0).map(tuple)
    choices = st.builds(Choice, texts, reasons, logprobs(is_chat), tool_calls)
    made = tuple(data.draw(st.lists(choices, max_size=3)))
    answer = Answer(model, made, usage, "Outrider", GENERATION)
    assert wire.decode_answer(wire.encode_answer(answer, decode(wire))) == answer


@given(st.data(), wires, texts, usages_of_predictions)
def test_a_stream_survives_the_wire(
    data: st.DataObject, wire: OpenRouter, model: str, usage: Usage
):
    is_chat = wire is CHAT_COMPLETIONS
    n = data.draw(st.integers(1, 3))
    index = st.integers(0, n - 1)
    deltas: st.SearchStrategy[Event] = st.builds(TextDelta, index, filled, logprobs(is_chat))
    if is_chat:
        deltas |= st.builds(ToolCallDelta, index, st.integers(0, 3), texts, filled, texts)
        deltas |= st.builds(ToolCallDelta, index, st.integers(0, 3), texts)
    events: list[Event] = [Started(model, "Outrider", GENERATION)]
    events += data.draw(st.lists(deltas, max_size=6))
    events += [Finished(index, data.draw(reasons)) for index in range(n)]
    events.append(Completed(usage))
    encoder = wire.stream_encoder(decode(wire, n=n, stream=True))
    stream = wire.keep_alive.join(encoder.encode(event) for event in events)
    assert wire.decode_stream(stream) == events


@pytest.mark.parametrize("errors", ERRORS, ids=lambda errors: errors.__class__.__name__)
@given(data=st.data(), wire=wires)
def test_an_error_survives_the_wire_alone_and_in_a_stream(
    errors: st.SearchStrategy[OutriderError], data: st.DataObject, wire: OpenRouter
):
    error = data.draw(errors)
    status, body = wire.encode_error(error, ID)
    assert json.loads(body)["error"]["code"] == status
    with pytest.raises(type(error)) as caught:
        wire.decode_stream(wire.stream_encoder(decode(wire)).encode_error(error))
    for again in (wire.decode_error(status, body), caught.value):
        assert type(again) is type(error)
        assert vars(again) == vars(error)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, b'{"error":{"code":400,"message":"no"}}', InvalidRequest),
        (404, b'{"error":{"code":404,"message":"No endpoints found"}}', ModelNotFound),
        (502, b'{"error":{"code":502,"message":"Provider returned error"}}', ProviderError),
        (200, b'{"error":{"message":"no","error_type":"server"}}', EngineFailed),
        (500, b"<html>", EngineFailed),
        (500, b'{"error":"text"}', EngineFailed),
        (500, b'{"error":{"code":"server_error","message":5,"metadata":[]}}', EngineFailed),
        (500, b"[" * 100_000, EngineFailed),
        (500, b"[]", EngineFailed),
    ],
)
def test_errors_of_other_servers_are_read(status: int, body: bytes, kind: type[OutriderError]):
    assert type(CHAT_COMPLETIONS.decode_error(status, body)) is kind


def test_an_answer_with_status_200_may_be_an_error():
    error = {"code": 502, "message": "Provider returned error"}
    for body in ({"error": error}, {"choices": [{"error": error}]}):
        with pytest.raises(ProviderError, match="Provider returned error"):
            CHAT_COMPLETIONS.decode_answer(json.dumps(body).encode())


def test_a_stream_without_its_end_failed():
    with pytest.raises(ProviderError, match="ended early"):
        CHAT_COMPLETIONS.decode_stream(b": OPENROUTER PROCESSING\n\n")


# Forms.

ANSWER = Answer("m", (Choice("Hé", "length"),), Usage(3, 2, 1))
CALLS = Answer(
    "m", (Choice("", "tool_calls", tool_calls=(ToolCall("c", "f", "{}"),)),), Usage(3, 2)
)
LOGPROBS = (TokenLogprob(7, b"\xc3", -0.5, ()),)
STREAM: list[Event] = [
    Started("m"),
    TextDelta(0, "Hé", LOGPROBS),
    ToolCallDelta(0, 0, "{", "c", "f"),
    ToolCallDelta(0, 0, "}"),
    Finished(0, "tool_calls"),
    Completed(Usage(3, 2, 1)),
]


def test_an_answer_has_exactly_this_form():
    assert json.loads(CHAT_COMPLETIONS.encode_answer(ANSWER, decode(CHAT_COMPLETIONS))) == {
        "id": GENERATION,
        "provider": "Outrider",
        "model": "m",
        "object": "chat.completion",
        "created": 5,
        "system_fingerprint": None,
        "choices": [
            {
                "index": 0,
                "finish_reason": "length",
                "native_finish_reason": "length",
                "logprobs": None,
                "message": {
                    "role": "assistant",
                    "content": "Hé",
                    "refusal": None,
                    "reasoning": None,
                },
            }
        ],
        "usage": USAGE,
    }
    body = json.loads(COMPLETIONS.encode_answer(ANSWER, decode(COMPLETIONS)))
    assert body["object"] == "text_completion"
    assert body["choices"] == [
        {
            "index": 0,
            "text": "Hé",
            "finish_reason": "length",
            "native_finish_reason": "length",
            "logprobs": None,
        }
    ]


def test_a_stream_has_usage_in_its_last_chunk_alone_whatever_is_asked():
    events: list[Event] = [
        Started("real"),
        TextDelta(0, "Hé"),
        Finished(0, "stop"),
        Completed(Usage(3, 2, 1)),
    ]
    chunks = streamed(CHAT_COMPLETIONS, events, stream_options={"include_usage": False})
    head = {
        "id": GENERATION,
        "provider": "Outrider",
        "model": "real",
        "object": "chat.completion.chunk",
        "created": 5,
    }
    assert all(chunk.items() >= head.items() for chunk in chunks)
    assert [list(chunk["choices"]) for chunk in chunks] == [
        [
            {
                "index": 0,
                "delta": delta,
                "logprobs": None,
                "finish_reason": reason,
                "native_finish_reason": reason,
            }
        ]
        for delta, reason in (
            ({"role": "assistant", "content": "", "refusal": None}, None),
            ({"content": "Hé"}, None),
            ({}, "stop"),
        )
    ] + [[]]
    assert [chunk.get("usage") for chunk in chunks] == [None, None, None, USAGE]


def test_an_error_inside_a_stream_ends_its_choice():
    encoder = CHAT_COMPLETIONS.stream_encoder(decode(CHAT_COMPLETIONS, stream=True))
    encoder.encode(Started("real"))
    chunk = json.loads(encoder.encode_error(EngineFailed("it died")).removeprefix(b"data: "))
    assert chunk["model"] == "real"
    assert chunk["error"] == {
        "code": 500,
        "message": "it died",
        "metadata": {"error_type": "server", "provider_code": "engine_failed"},
    }
    assert chunk["choices"][0]["finish_reason"] == "error"
    assert chunk["choices"][0]["delta"] == {"content": ""}


def test_an_id_belongs_to_its_request():
    headers = CHAT_COMPLETIONS.headers(ID, 5)
    assert headers == {"x-generation-id": GENERATION}
    assert CHAT_COMPLETIONS.headers("other", 5) != headers


# OpenRouter's own schemas.


def test_answers_match_openrouters_schema():
    for answer in (ANSWER, CALLS, Answer("m", (Choice("a", "stop", LOGPROBS),), Usage(1, 1))):
        body = CHAT_COMPLETIONS.encode_answer(answer, decode(CHAT_COMPLETIONS))
        check(json.loads(body), "ChatResult")


def test_chunks_match_openrouters_schema():
    for chunk in streamed(CHAT_COMPLETIONS, STREAM):
        check(chunk, "ChatStreamChunk")
    encoder = CHAT_COMPLETIONS.stream_encoder(decode(CHAT_COMPLETIONS, stream=True))
    failure = encoder.encode_error(EngineFailed("it died"))
    check(json.loads(failure.removeprefix(b"data: ")), "ChatStreamChunk")


@pytest.mark.parametrize("errors", ERRORS, ids=lambda errors: errors.__class__.__name__)
@given(data=st.data())
@settings(deadline=None, max_examples=20)
def test_errors_match_openrouters_schema(
    errors: st.SearchStrategy[OutriderError], data: st.DataObject
):
    status, body = CHAT_COMPLETIONS.encode_error(data.draw(errors), ID)
    responses = document()["paths"]["/chat/completions"]["post"]["responses"]
    schema = responses[str(status)]["content"]["application/json"]["schema"]["$ref"]
    check(json.loads(body), schema.rpartition("/")[2])
    kinds = document()["components"]["schemas"]["ApiErrorType"]["enum"]
    assert json.loads(body)["error"]["metadata"]["error_type"] in kinds


def test_every_field_of_openrouters_schema_has_a_treatment():
    documented = document()["components"]["schemas"]["ChatRequest"]["properties"]
    assert set(documented) <= set(openrouter_request.CHAT_FIELDS)


@given(requests(is_chat=True, sampling=OWN_SAMPLING, forms=GRAMMARS).map(with_open_end))
@settings(deadline=None, max_examples=50)
def test_our_requests_match_openrouters_schema(request: GenerationRequest):
    check(json.loads(CHAT_COMPLETIONS.encode_request(request)), "ChatRequest")


# Fields.


@BOTH
def test_sampling_fields_are_mapped(wire: OpenRouter):
    values = {
        "temperature": 0.5,
        "top_p": 0.25,
        "top_k": 4,
        "min_p": 0.125,
        "top_a": 0.5,
        "frequency_penalty": -1.0,
        "presence_penalty": 1.0,
        "repetition_penalty": 1.5,
        "seed": 7,
        "max_tokens": 3,
        "n": 2,
    }
    decoded = decode(wire, **values, logit_bias={"5": 1}, stop="x")
    assert decoded.request.sampling == SamplingParams(**values, logit_bias={5: 1.0}, stop=("x",))
    assert decoded.ignored == ()


@BOTH
def test_what_is_omitted_is_not_injected(wire: OpenRouter):
    request = decode(wire).request
    assert request.given == frozenset()
    assert request.sampling == SamplingParams()


@BOTH
def test_a_repetition_penalty_of_zero_is_neutral(wire: OpenRouter):
    assert decode(wire, repetition_penalty=0).request.sampling.repetition_penalty == 1.0
    for value in (-0.1, 2.1, 1e308):
        assert refusal(wire, repetition_penalty=value).param == "repetition_penalty"
    assert refusal(wire, repetition_penalty=False).param == "repetition_penalty"


def test_the_newer_name_of_the_limit_wins():
    decoded = decode(CHAT_COMPLETIONS, max_tokens=3, max_completion_tokens=5)
    assert decoded.request.sampling.max_tokens == 5


@BOTH
def test_inert_fields_change_nothing_and_are_not_named(wire: OpenRouter):
    names = [k for k, v in openrouter_request.CHAT_FIELDS.items() if v == "inert"]
    assert decode(wire, **{name: {"any": 1} for name in names}) == decode(wire)


@BOTH
def test_what_is_not_done_here_is_named_and_changes_nothing(wire: OpenRouter):
    fields = {
        "plugins": [{"id": "web"}],
        "transforms": ["middle-out"],
        "provider": {"mood": ["deepinfra"]},
        "mood": 5,
    }
    decoded = decode(wire, **fields)
    assert decoded.ignored == ("mood", "plugins", "provider.mood", "transforms")
    assert decoded.request == decode(wire).request
    empty = decode(wire, plugins=[], transforms=[], provider={}, modalities=None)
    assert empty == decode(wire)


@BOTH
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"mood": 5}, "mood"),
        ({"plugins": [{"id": "web"}]}, "plugins"),
        ({"reasoning": {"effort": "low"}}, "reasoning"),
        ({"verbosity": "low"}, "verbosity"),
        ({"web_search_options": {"a": 1}}, "web_search_options"),
    ],
)
def test_required_parameters_are_refused_instead_of_ignored(
    wire: OpenRouter, fields: dict[str, Any], param: str
):
    decode(wire, **fields, provider={"require_parameters": False})
    error = refusal(wire, **fields, provider={"require_parameters": True})
    assert isinstance(error, UnsupportedParameter)
    assert error.param == param


@BOTH
def test_two_efforts_have_to_agree(wire: OpenRouter):
    low = {"effort": "low"}
    assert decode(wire, reasoning=low, reasoning_effort="low") == decode(wire)
    assert refusal(wire, reasoning=low, reasoning_effort="high").param == "reasoning_effort"


def test_a_required_field_inside_of_a_message_is_named_by_its_path():
    messages = [{"role": "user", "content": "a", "mood": 1}]
    error = refusal(CHAT_COMPLETIONS, messages=messages, provider={"require_parameters": True})
    assert error.param == "messages[].mood"


def test_fields_inside_of_others_are_ignored_and_named():
    messages = [
        {
            "role": "user",
            "mood": 1,
            "content": [{"type": "text", "text": "a", "cache_control": {}, "size": 2}],
        },
        {"role": "assistant", "content": "b", "reasoning": "r", "reasoning_details": []},
    ]
    function = {"name": "f", "colour": "red", "parameters": {"type": "object", "mood": 1}}
    tools = [{"type": "function", "function": function, "cache_control": {}}]
    decoded = decode(CHAT_COMPLETIONS, messages=messages, tools=tools)
    assert decoded.request.messages == (
        Message("user", "a"),
        Message("assistant", "b", is_open=True),
    )
    assert decoded.request.tools[0].parameters == {"type": "object", "mood": 1}
    assert decoded.ignored == (
        "messages[].content[].size",
        "messages[].mood",
        "tools[].function.colour",
    )


def test_the_list_of_ignored_fields_stays_short():
    decoded = decode(CHAT_COMPLETIONS, **{f"x{index}": 1 for index in range(10_000)})
    assert len(decoded.ignored) == MAX_NAMES


@BOTH
@pytest.mark.parametrize(
    ("fields", "models"),
    [
        ({}, ("m",)),
        ({"model": None}, ()),
        ({"model": None, "models": ["a", "b"]}, ("a", "b")),
        ({"model": "m", "models": ["a"]}, ("m", "a")),
        ({"model": "a/b:free"}, ("a/b:free", "a/b")),
        ({"model": "a/b:nitro:floor"}, ("a/b:nitro:floor", "a/b:nitro", "a/b")),
        ({"model": "a/b:thinking"}, ("a/b:thinking",)),
        ({"model": "free"}, ("free",)),
        ({"model": ""}, ("",)),
    ],
)
def test_models_are_looked_up_in_this_order(
    wire: OpenRouter, fields: dict[str, Any], models: tuple[str, ...]
):
    assert decode(wire, **fields).models == models


@BOTH
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 5}, "model"),
        ({"models": "a"}, "models"),
        ({"models": ["a", 5]}, "models[1]"),
        ({"models": ["a"] * 33}, "models"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"top_k": 1.5}, "top_k"),
        ({"stop": [5]}, "stop[0]"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"seed": "7"}, "seed"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_wrong_values_are_refused_by_name(wire: OpenRouter, fields: dict[str, Any], param: str):
    error = refusal(wire, **fields)
    assert error.param == param
    assert param.partition("[")[0] in error.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": 5}, "messages"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"tools": [{"type": "openrouter:web_search"}]}, "tools[0].type"),
        ({"tool_choice": "required"}, "tool_choice"),
        (
            {"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {}}]}]},
            "messages[0].content[0].type",
        ),
    ],
)
def test_wrong_messages_and_tools_are_refused_by_path(fields: dict[str, Any], param: str):
    assert refusal(CHAT_COMPLETIONS, **fields).param == param


def test_a_chat_without_messages_is_refused_and_one_with_a_prompt_is_text():
    body = json.dumps({"model": "m", "prompt": "Hello", "max_completion_tokens": 5}).encode()
    decoded = CHAT_COMPLETIONS.decode_request(body, ENVELOPE)
    assert decoded.request.prompts == ("Hello",)
    answer = json.loads(CHAT_COMPLETIONS.encode_answer(ANSWER, decoded))
    assert answer["choices"][0]["text"] == "Hé"
    with pytest.raises(InvalidRequest) as caught:
        CHAT_COMPLETIONS.decode_request(b'{"model": "m"}', ENVELOPE)
    assert caught.value.param == "messages"


def test_names_stand_before_what_is_said():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
    messages = [
        {"role": "user", "name": "Ann", "content": "Hello"},
        {"role": "user", "name": "Bob", "content": [image]},
        {"role": "tool", "name": "f", "content": "5", "tool_call_id": "c"},
        {"role": "user", "name": "", "content": "Bye"},
    ]
    request = decode(CHAT_COMPLETIONS, messages=messages).request
    assert [message.text for message in request.messages] == ["Ann: Hello", "Bob: ", "5", "Bye"]


def test_a_field_that_the_wire_cannot_carry_is_refused_when_it_is_written():
    for values in ({"ignore_eos": True}, {"repetition_penalty": 3.0}, {"stop": ("a",) * 5}):
        fields: Any = {"sampling": SamplingParams(**values), "given": frozenset(values)}
        request = GenerationRequest(request_id=ID, model="m", prompts=("a",), **fields)
        with pytest.raises(UnsupportedParameter) as caught:
            COMPLETIONS.encode_request(request)
        assert caught.value.param == next(iter(values))


@given(
    wires,
    st.dictionaries(
        st.sampled_from([*openrouter_request.CHAT_FIELDS, "x"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | texts,
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
            max_leaves=4,
        ),
    ),
)
def test_any_body_is_read_or_refused(wire: OpenRouter, body: dict[str, Any]):
    try:
        decode(wire, **body)
    except InvalidRequest as error:
        assert "\n" not in error.message
