"""What hypothesis makes for the laws of every wire: requests, answers, events and errors."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import strategies as st

from outrider.dialects.openai_replies import UNKNOWN_ID
from outrider.errors import (
    ContextLengthExceeded,
    EngineFailed,
    EngineOverloaded,
    InvalidRequest,
    ModelNotFound,
    OutriderError,
    PayloadTooLarge,
    RequestTimeout,
    UnsupportedParameter,
)
from outrider.types import (
    GenerationRequest,
    Grammar,
    ImagePart,
    Message,
    NamedTool,
    SamplingParams,
    TextPart,
    TokenAlternative,
    TokenLogprob,
    Tool,
    ToolCall,
    Usage,
)

ID = "7c2f0c1e"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
filled = texts.filter(bool)
reasons = st.sampled_from(["stop", "length", "tool_calls"])
counts = st.integers(0, 2**40)
usages = st.builds(Usage, counts, counts, counts)
usages_of_predictions = st.builds(Usage, counts, counts, counts, counts, counts)
token_ids = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=5).map(tuple)

SAMPLING: dict[str, st.SearchStrategy[Any]] = {
    "temperature": st.floats(0, 2),
    "top_p": st.floats(1e-9, 1),
    "top_k": st.integers(0, 2**31 - 1),
    "min_p": st.floats(0, 1),
    "top_a": st.floats(0, 1),
    "repetition_penalty": st.floats(0, 1e6, exclude_min=True),
    "frequency_penalty": st.floats(-2, 2),
    "presence_penalty": st.floats(-2, 2),
    "logit_bias": st.dictionaries(st.integers(0, 10**10 - 1), st.floats(-100, 100), min_size=1),
    "seed": st.integers(-(2**63), 2**64 - 1),
    "stop": st.lists(filled, min_size=1, max_size=16).map(tuple),
    "max_tokens": st.integers(1, 2**31 - 1),
    "ignore_eos": st.booleans(),
    "logprobs": st.integers(0, 20),
    "n": st.integers(1, 40),
}


names = st.from_regex(r"[a-zA-Z0-9_-]{1,64}", fullmatch=True)
calls = st.builds(ToolCall, texts, texts, texts)
parts = st.builds(TextPart, texts) | st.builds(
    ImagePart, st.binary(min_size=1, max_size=40), st.sampled_from(["auto", "high", "low"])
)
contents = st.lists(parts, min_size=1, max_size=4).filter(
    lambda content: any(isinstance(part, ImagePart) for part in content)
)
MESSAGES = st.one_of(
    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), texts),
    st.builds(Message, st.just("user"), contents.map(tuple)),
    st.builds(
        Message, st.just("assistant"), texts, st.lists(calls, min_size=1, max_size=3).map(tuple)
    ),
    st.builds(Message, st.just("tool"), texts, tool_call_id=filled),
)


def to_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


schemas = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e9, 1e9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
TOOLS = st.lists(
    st.builds(
        Tool,
        names,
        texts,
        st.just({})
        | st.dictionaries(texts, schemas, max_size=3).map(lambda s: {**s, "type": "object"}),
        st.booleans(),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda tool: tool.name,
).map(tuple)


@st.composite
def tool_fields(draw: st.DrawFn) -> dict[str, Any]:
    tools = draw(st.just(()) | TOOLS)
    if not tools:
        return {}
    named = st.sampled_from(tools).map(lambda tool: NamedTool(tool.name))
    return {
        "tools": tools,
        "tool_choice": draw(st.sampled_from(["auto", "none", "required"]) | named),
        "parallel_tool_calls": draw(st.booleans()),
    }


objects = st.dictionaries(texts, schemas, max_size=3)
FORMS = st.none() | st.builds(
    Grammar, st.just("json_schema"), objects.map(to_json), st.just("response_format")
)
GRAMMARS = FORMS | st.builds(Grammar, st.just("lark"), filled, st.just("response_format"))
OUTPUTS = st.builds(
    Grammar, st.sampled_from(["lark", "regex"]), filled, st.just("structured_outputs")
)


@st.composite
def requests(
    draw: st.DrawFn,
    is_chat: bool,
    sampling: dict[str, st.SearchStrategy[Any]] = SAMPLING,
    forms: st.SearchStrategy[Grammar | None] = st.none(),  # noqa: B008
) -> GenerationRequest:
    values = draw(st.fixed_dictionaries({}, optional=sampling))
    messages: tuple[Message, ...] = ()
    prompts: tuple[Any, ...] = ()
    tools: dict[str, Any] = {}
    prediction = draw(texts) if is_chat else ""
    if is_chat:
        messages = tuple(draw(st.lists(MESSAGES, min_size=1, max_size=4)))
        tools = draw(tool_fields())
    else:
        values.setdefault("max_tokens", 16)
        kind = draw(st.sampled_from([texts, token_ids]))
        prompts = tuple(draw(st.lists(kind, min_size=1, max_size=4)))
    return GenerationRequest(
        request_id=ID,
        model=draw(texts),
        messages=messages,
        prompts=prompts,
        sampling=SamplingParams(**values),
        given=frozenset(values),
        **tools,
        grammar=draw(forms),
        prediction=prediction,
        stream=draw(st.booleans()),
        cache_salt="s",
    )


def with_open_end(request: GenerationRequest) -> GenerationRequest:
    """Give a conversation as OpenRouter means it: answers go on behind the assistant's words."""
    *earlier, last = request.messages
    is_open = last.role == "assistant" and not last.tool_calls
    messages = (*earlier, msgspec.structs.replace(last, is_open=is_open))
    return msgspec.structs.replace(request, messages=messages)


@st.composite
def logprobs(draw: st.DrawFn, is_chat: bool) -> tuple[TokenLogprob, ...]:
    """Log probabilities that the wire can carry: ids are lost, and text has no broken tokens."""
    tokens = st.binary(max_size=4) if is_chat else texts.map(str.encode)
    values = st.floats(-1e3, 0)
    top = st.lists(
        st.builds(TokenAlternative, st.just(UNKNOWN_ID), tokens, values),
        max_size=3,
        unique_by=lambda alternative: alternative.token,
    ).map(tuple)
    entries = st.builds(TokenLogprob, st.just(UNKNOWN_ID), tokens, values, top)
    return tuple(draw(st.lists(entries, max_size=3)))


params = st.none() | filled
ERRORS: list[st.SearchStrategy[OutriderError]] = [
    st.builds(InvalidRequest, texts, params),
    st.builds(UnsupportedParameter, texts, params),
    st.builds(ContextLengthExceeded, counts, counts, params),
    st.builds(ModelNotFound, texts, params),
    st.builds(PayloadTooLarge, texts, params),
    st.builds(RequestTimeout, texts, params),
    st.builds(EngineOverloaded, texts),
    st.builds(EngineFailed, texts),
]
