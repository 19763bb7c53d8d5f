"""Tests of the local provider with tools and images: what the engine gets, what callers get."""

from __future__ import annotations

import asyncio
import io
import re
import threading
from typing import Any

import pytest
from PIL import Image

from fake_engine import PATCH, VISION
from gateway.fake_client import (
    FakeClient,
    NotingTokenizer,
    Script,
    make_provider,
    output,
    request,
    run,
    short_answers,
)
from outrider.engine.protocol import SequenceOutput, Submit
from outrider.errors import ContextLengthExceeded, InvalidRequest
from outrider.gateway.local import LONG_TEXT_CHARS
from outrider.types import (
    Completed,
    Event,
    Finished,
    FinishReason,
    Grammar,
    ImagePart,
    Message,
    NamedTool,
    SamplingParams,
    Started,
    TextDelta,
    TextPart,
    TokenLogprob,
    Tool,
    ToolCallDelta,
)

TOOLS = (Tool("f", "", {"type": "object", "properties": {"a": {"type": "integer"}}}), Tool("g"))
CALL = '{"name": "f", "parameters": {"a": 1}}'


def answers(*pieces: str, reason: FinishReason = "stop") -> Script:
    """Give each choice these pieces of text, one after the other."""

    def script(submit: Submit) -> list[SequenceOutput | Exception]:
        last = len(pieces) - 1
        return [
            output(index, text, count=n + 1, finish_reason=reason if n == last else None)
            for index in range(len(submit.prompts) * submit.sampling.n)
            for n, text in enumerate(pieces)
        ]

    return script


def ask(*pieces: str, reason: FinishReason = "stop", **changes: Any) -> list[Event]:
    """Give the events between the first and the last."""
    client = FakeClient(answers(*pieces, reason=reason))
    first, *events, last = run(make_provider(client), request(tools=TOOLS, **changes))
    assert isinstance(first, Started)
    assert isinstance(last, Completed)
    return events


def joined(events: list[Event]) -> list[tuple[int, str, str]]:
    """Give index, name and joined arguments of each call; ids have to be there and unique."""
    heads = [e for e in events if isinstance(e, ToolCallDelta) and e.name]
    ids = {head.id for head in heads}
    assert len(ids) == len(heads)
    assert all(re.fullmatch(r"call_[0-9a-f]{24}", call_id) for call_id in ids)
    calls = []
    for head in heads:
        parts = [
            e.arguments
            for e in events
            if isinstance(e, ToolCallDelta)
            and (e.index, e.call_index) == (head.index, head.call_index)
        ]
        calls.append((head.call_index, head.name, "".join(parts)))
    return calls


def test_a_call_becomes_events_and_the_reason_to_finish() -> None:
    events = ask(CALL[:11], CALL[11:20], CALL[20:])
    assert joined(events) == [(0, "f", '{"a":1}')]
    assert events[-1] == Finished(0, "tool_calls")
    assert not [e for e in events if isinstance(e, TextDelta)]


def test_text_before_a_call_stays_text() -> None:
    events = ask("I will look. ", CALL)
    assert "".join(e.text for e in events if isinstance(e, TextDelta)).strip() == "I will look."
    assert joined(events) == [(0, "f", '{"a":1}')]


def test_an_answer_without_a_call_finishes_as_always() -> None:
    assert ask("Hello ", "{you}") == [
        TextDelta(0, "Hello ", num_tokens=1),
        TextDelta(0, "{you}", num_tokens=1),
        Finished(0, "stop"),
    ]


def test_a_call_that_was_cut_off_is_text_and_the_reason_is_length() -> None:
    events = ask(CALL[:-3], reason="length")
    assert joined(events) == []
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == CALL[:-3]
    assert events[-1] == Finished(0, "length")


def test_a_whole_call_at_the_limit_is_a_call_and_the_reason_is_length() -> None:
    events = ask(CALL, reason="length")
    assert joined(events) == [(0, "f", '{"a":1}')]
    assert events[-1] == Finished(0, "length")


def test_several_calls_are_counted_unless_only_one_is_wanted() -> None:
    two = f"[{CALL}, {CALL}]"
    assert [call[0] for call in joined(ask(two))] == [0, 1]
    only = ask(two, parallel_tool_calls=False)
    assert joined(only) == [(0, "f", '{"a":1}')]
    assert only[-1] == Finished(0, "tool_calls")


def test_every_choice_has_calls_of_its_own() -> None:
    events = ask(CALL[:9], CALL[9:], sampling=SamplingParams(n=2))
    heads = [e for e in events if isinstance(e, ToolCallDelta) and e.name]
    assert [(head.index, head.call_index) for head in heads] == [(0, 0), (1, 0)]
    assert heads[0].id != heads[1].id


def test_logprobs_of_a_call_come_with_empty_text() -> None:
    logprobs = (TokenLogprob(1, b"x", -0.5),)

    def script(submit: Submit) -> list[SequenceOutput | Exception]:
        return [SequenceOutput("r1", 0, CALL, (1,), logprobs, "stop")]

    events = run(make_provider(FakeClient(script)), request(tools=TOOLS))
    assert events[1] == TextDelta(0, "", logprobs)
    assert joined(events) == [(0, "f", '{"a":1}')]


def submitted(**changes: Any) -> Submit:
    client = FakeClient(answers("x"))
    run(make_provider(client), request(**changes))
    return client.submitted[0]


def test_tools_are_shown_unless_none_may_be_called() -> None:
    encode = NotingTokenizer().encode
    assert submitted(tools=TOOLS).prompts == (tuple(encode("fgHello")),)
    assert submitted(tools=TOOLS, tool_choice="none").prompts == (tuple(encode("Hello")),)
    assert ask(CALL, tool_choice="none") == [TextDelta(0, CALL, num_tokens=1), Finished(0, "stop")]


def test_a_demanded_call_is_a_grammar_of_the_engine() -> None:
    assert submitted(tools=TOOLS).grammar is None
    assert submitted(tools=TOOLS, tool_choice="none").grammar is None
    both = submitted(tools=TOOLS, tool_choice="required").grammar
    one = submitted(tools=TOOLS, tool_choice=NamedTool("g")).grammar
    single = submitted(tools=TOOLS, tool_choice="required", parallel_tool_calls=False).grammar
    assert both and one and single
    assert len({both.source, one.source, single.source}) == 3
    several = submitted(tools=TOOLS, tool_choice=NamedTool("g"), parallel_tool_calls=True).grammar
    assert several == one  # a tool that is named is called exactly once


def test_a_strict_tool_is_a_grammar_of_the_engine() -> None:
    strict = (*TOOLS, Tool("h", strict=True))
    grammar = submitted(tools=strict).grammar
    assert grammar is not None and "TEXT" in grammar.source
    assert submitted(tools=strict, tool_choice="none").grammar is None


def test_a_demanded_call_that_was_cut_off_is_no_text() -> None:
    events = ask(CALL[:20], CALL[20:-3], reason="length", tool_choice="required")
    assert joined(events) == [(0, "f", '{"a": ')]
    assert not [e for e in events if isinstance(e, TextDelta)]
    assert events[-1] == Finished(0, "length")


def test_long_tools_and_long_calls_are_tokenised_in_another_thread() -> None:
    here = threading.get_ident()
    long = "x" * (LONG_TEXT_CHARS + 1)
    for changes in ({"tools": (Tool("f", long),)}, {"messages": (Message("user", long),)}):
        tokenizer = NotingTokenizer()
        client = FakeClient(short_answers, max_model_len=100 * LONG_TEXT_CHARS)
        run(make_provider(client, tokenizer=tokenizer), request(**changes))
        assert tokenizer.threads and here not in tokenizer.threads


def picture(width: int, height: int, colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "PNG")
    return file.getvalue()


def look_at(*data: bytes) -> tuple[Message, ...]:
    parts = [TextPart("see"), *(ImagePart(each) for each in data), TextPart("!")]
    return (Message("system", "s"), Message("user", tuple(parts)))


def test_images_are_cut_and_stand_in_the_prompt_as_patches() -> None:
    client = FakeClient(short_answers, max_model_len=1000)
    messages = look_at(picture(3, 3), picture(8, 4))
    events = run(make_provider(client, vision=VISION), request(messages=messages))
    (submit,) = client.submitted
    assert [(image.rows, image.cols) for image in submit.images] == [(1, 1), (1, 2)]
    assert submit.images[0].pixels[:3] == b"\xff\0\0"
    num_patches = sum(image.num_tiles for image in submit.images) * VISION.tokens_per_tile
    assert submit.prompts[0].count(PATCH) == num_patches == 16
    usage = events[-1]
    assert isinstance(usage, Completed)
    assert usage.usage.prompt_tokens == len(submit.prompts[0]) > num_patches


def test_a_text_model_names_the_image_that_it_does_not_take() -> None:
    client = FakeClient(short_answers)
    with pytest.raises(InvalidRequest, match="reads text only") as caught:
        run(make_provider(client), request(messages=look_at(picture(3, 3))))
    assert caught.value.param == "messages[1].content[1]"
    assert client.submitted == []


@pytest.mark.parametrize("data", [b"", b"garbage", picture(3, 3)[:30], b"\x89PNG\r\n\x1a\n"])
def test_an_image_that_is_none_is_named_by_its_path(data: bytes) -> None:
    client = FakeClient(short_answers, max_model_len=1000)
    messages = look_at(picture(3, 3), data)
    with pytest.raises(InvalidRequest) as caught:
        run(make_provider(client, vision=VISION), request(messages=messages))
    assert caught.value.param == "messages[1].content[2]"
    assert "\n" not in caught.value.message
    assert client.submitted == []


def test_images_count_for_the_length_of_the_prompt() -> None:
    client = FakeClient(short_answers, max_model_len=15)
    messages = look_at(picture(3, 3), picture(8, 4))
    with pytest.raises(ContextLengthExceeded) as caught:
        run(make_provider(client, vision=VISION), request(messages=messages))
    assert caught.value.param == "messages"
    assert caught.value.num_prompt_tokens > 16


def test_too_many_images_are_refused_before_one_is_opened() -> None:
    client = FakeClient(short_answers)
    with pytest.raises(InvalidRequest, match="65 images") as caught:
        run(make_provider(client, vision=VISION), request(messages=look_at(*[b"x"] * 65)))
    assert caught.value.param == "messages"


def test_the_tiles_of_all_images_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outrider.text.prompt.MAX_PIXEL_BYTES", 100)
    client = FakeClient(short_answers, max_model_len=1000)
    messages = look_at(picture(3, 3), picture(3, 3), picture(3, 3))
    with pytest.raises(InvalidRequest, match="fewer or smaller") as caught:
        run(make_provider(client, vision=VISION), request(messages=messages))
    assert caught.value.param == "messages[1].content[3]"


def test_images_are_decoded_off_the_event_loop_and_two_requests_at_a_time() -> None:
    threads: set[str] = set()
    running, most = 0, 0
    lock = threading.Lock()
    pause = threading.Event()

    class SlowTokenizer(NotingTokenizer):
        def special(self, name: str) -> int:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            threads.add(threading.current_thread().name)
            pause.wait(0.005)
            with lock:
                running -= 1
            return super().special(name)

    client = FakeClient(short_answers, max_model_len=1000)
    provider = make_provider(client, tokenizer=SlowTokenizer(), vision=VISION, max_pending=20)

    async def ask_all() -> None:
        async def one(number: int) -> None:
            wanted = request(messages=look_at(picture(3, 3)))
            assert len([event async for event in provider.generate(wanted)]) == 5

        await asyncio.gather(*(one(number) for number in range(6)))

    asyncio.run(ask_all())
    assert most <= 2
    assert len(threads) <= 2
    assert all(name.startswith("images") for name in threads)


def test_the_form_of_an_answer_reaches_the_engine_and_is_checked_before() -> None:
    client = FakeClient(short_answers)
    form = Grammar("json_schema", '{"type":"object"}', "response_format")
    run(make_provider(client), request(grammar=form))
    assert client.submitted[0].grammar == form
    bad = Grammar("regex", "a(?=b)", "structured_outputs")
    with pytest.raises(InvalidRequest) as caught:
        run(make_provider(client), request(grammar=bad))
    assert caught.value.param == "structured_outputs"
    assert len(client.submitted) == 1
