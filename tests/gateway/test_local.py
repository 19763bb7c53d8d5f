"""Tests of the local provider: requests to submits, outputs to events."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

import msgspec
import pytest

from fake_engine import SPECIAL, FakeTokenizer
from gateway.fake_client import (
    FakeClient,
    NotingTokenizer,
    make_provider,
    output,
    request,
    run,
    short_answers,
)
from outrider.engine.protocol import SequenceOutput, Submit
from outrider.errors import ContextLengthExceeded, EngineFailed, EngineOverloaded, InvalidRequest
from outrider.gateway.local import LONG_TEXT_CHARS
from outrider.types import (
    Completed,
    Event,
    Finished,
    Message,
    SamplingParams,
    Started,
    TextDelta,
    TokenLogprob,
    Usage,
)


def usage_of(events: list[Event]) -> Usage:
    assert isinstance(events[-1], Completed)
    return events[-1].usage


def test_outputs_become_events() -> None:
    client = FakeClient(short_answers)
    assert run(make_provider(client), request()) == [
        Started("fake", prompt_tokens=5),
        TextDelta(0, "Hel", num_tokens=1),
        TextDelta(0, "lo", num_tokens=1),
        Finished(0, "stop"),
        Completed(Usage(5, 2)),
    ]
    (submit,) = client.submitted
    assert submit.request_id == "r1"
    assert submit.prompts == (tuple(FakeTokenizer().encode("Hello")),)
    assert client.num_closed == 1


def test_outputs_without_text_become_no_event_unless_they_have_logprobs() -> None:
    logprobs = (TokenLogprob(1, b"x", -0.5),)
    with_logprobs = SequenceOutput("r1", 0, "", (1,), logprobs, num_output_tokens=2)

    def script(submit: Submit) -> list[SequenceOutput | Exception]:
        return [output(0), with_logprobs, output(0, finish_reason="length", count=3)]

    events = run(make_provider(FakeClient(script)), request())
    # The first output had no text: the next event tells of its token, too.
    assert events[1:-1] == [TextDelta(0, "", logprobs, 2), Finished(0, "length", 1)]
    assert usage_of(events).completion_tokens == 3


def test_the_salt_and_the_sampling_of_the_caller_reach_the_engine() -> None:
    client = FakeClient(short_answers)
    sampling = SamplingParams(temperature=0.3, seed=7, stop=("END",))
    run(make_provider(client), request(sampling=sampling, cache_salt="salt"))
    assert client.submitted[0].sampling == sampling
    assert client.submitted[0].cache_salt == "salt"


def test_the_models_defaults_replace_only_what_the_caller_did_not_send() -> None:
    client = FakeClient(short_answers)
    provider = make_provider(client, {"temperature": 0.6, "top_k": 20})
    sampling = SamplingParams(temperature=1.0, max_tokens=9)  # 1.0 on purpose, not by default
    run(provider, request(sampling=sampling, given=frozenset({"temperature"})))
    assert client.submitted[0].sampling == SamplingParams(temperature=1.0, top_k=20, max_tokens=9)
    run(provider, request(sampling=SamplingParams(temperature=0.15)))
    assert client.submitted[1].sampling == SamplingParams(temperature=0.6, top_k=20)


def test_raw_prompts_get_the_prefix_and_token_ids_are_taken_as_they_are() -> None:
    client = FakeClient(short_answers)
    run(make_provider(client), request(prompts=("ab", (5, 6, 7))))
    text_ids = tuple(FakeTokenizer().encode("ab"))
    assert client.submitted[0].prompts == ((SPECIAL, *text_ids), (5, 6, 7))


def test_a_prediction_reaches_the_engine_as_far_as_an_answer_could() -> None:
    def script(submit: Submit) -> Iterator[SequenceOutput | Exception]:
        for index in range(2):
            answer = output(index, "x", count=3, finish_reason="stop")
            yield msgspec.structs.replace(answer, num_predicted_tokens=60 + index)

    client = FakeClient(script, max_model_len=100)
    twice = request(sampling=SamplingParams(n=2), prediction="ab" * 200)
    usage = usage_of(run(make_provider(client), twice))
    assert client.submitted[0].lookup_token_ids == tuple(FakeTokenizer().encode("ab" * 50))
    assert (usage.accepted_prediction_tokens, usage.rejected_prediction_tokens) == (121, 79)
    assert usage.completion_tokens == 6


@pytest.mark.parametrize("length", [100, 101, 5000])
def test_a_conversation_without_room_for_an_answer_is_refused_with_both_counts(
    length: int,
) -> None:
    client = FakeClient(short_answers, max_model_len=100)
    long = (Message("user", "x" * length),)
    with pytest.raises(ContextLengthExceeded) as caught:
        run(make_provider(client), request(messages=long))
    assert (caught.value.num_prompt_tokens, caught.value.max_model_len) == (length, 100)
    assert caught.value.param == "messages"
    assert f"{length:,}" in caught.value.message
    assert client.submitted == []


def test_the_longest_prompt_that_leaves_room_for_one_token_is_served() -> None:
    client = FakeClient(short_answers, max_model_len=100)
    events = run(make_provider(client), request(messages=(Message("user", "x" * 99),)))
    assert usage_of(events).prompt_tokens == 99


@pytest.mark.parametrize(
    ("prompts", "param"), [((("x" * 100),), "prompt"), (("x", "y" * 100), "prompt[1]")]
)
def test_the_error_names_the_prompt_that_is_too_long(prompts: tuple[str, ...], param: str) -> None:
    client = FakeClient(short_answers, max_model_len=100)
    with pytest.raises(ContextLengthExceeded) as caught:
        run(make_provider(client), request(prompts=prompts))
    assert caught.value.param == param
    assert caught.value.num_prompt_tokens == 101  # with the prefix


def test_usage_counts_each_prompt_once_and_each_choice() -> None:
    def script(submit: Submit) -> Iterator[SequenceOutput | Exception]:
        for index in range(4):  # two prompts, n = 2; cached counts of second choices don't count
            yield output(index, "x", count=1, cached=(16, 20, 32, 48)[index])
        for index in range(4):
            yield output(index, "y", count=2 + index, cached=0, finish_reason="stop")

    sampling = SamplingParams(n=2)
    events = run(
        make_provider(FakeClient(script)),
        request(prompts=((1,) * 40, (2,) * 50), sampling=sampling),
    )
    assert usage_of(events) == Usage(90, 2 + 3 + 4 + 5, 16 + 32)


def test_more_than_max_pending_requests_are_refused_and_leaving_makes_room() -> None:
    provider = make_provider(FakeClient(short_answers), max_pending=2)

    async def fill() -> None:
        streams = [provider.generate(request()) for _ in range(2)]
        for stream in streams:
            assert await anext(stream) == Started("fake", prompt_tokens=5)
        assert provider.num_pending == 2
        with pytest.raises(EngineOverloaded, match="--max-queue"):
            await anext(provider.generate(request()))
        assert provider.num_pending == 2
        await streams[0].aclose()
        assert provider.num_pending == 1
        assert len([event async for event in provider.generate(request())]) == 5
        await streams[1].aclose()
        assert provider.num_pending == 0

    asyncio.run(fill())


def test_a_request_that_does_not_want_to_wait_is_refused_once_all_places_are_taken() -> None:
    provider = make_provider(FakeClient(short_answers), max_pending=4, max_running=1)
    hasty = request(reject_if_busy=True)

    async def fill() -> None:
        live = provider.generate(request())
        assert await anext(live) == Started("fake", prompt_tokens=5)
        with pytest.raises(EngineOverloaded, match="is busy"):
            await anext(provider.generate(hasty))
        patient = provider.generate(request())
        assert await anext(patient) == Started("fake", prompt_tokens=5)
        await patient.aclose()
        await live.aclose()
        assert len([event async for event in provider.generate(hasty)]) == 5

    asyncio.run(fill())


def test_background_requests_take_no_place_in_the_queue() -> None:
    client = FakeClient(short_answers)
    provider = make_provider(client, max_pending=1)
    background = msgspec.structs.replace(request(), is_background=True)

    async def fill() -> None:
        live = provider.generate(request())
        assert await anext(live) == Started("fake", prompt_tokens=5)
        stream = provider.generate(background)
        assert await anext(stream) == Started("fake", prompt_tokens=5)
        assert provider.num_pending == 1
        await stream.aclose()
        await live.aclose()

    asyncio.run(fill())
    assert [submit.is_background for submit in client.submitted] == [False, True]


@pytest.mark.parametrize("error", [EngineFailed("it died"), InvalidRequest("no", "seed")])
@pytest.mark.parametrize("num_outputs", [0, 1])
def test_errors_of_the_engine_pass_and_leave_nothing_pending(
    error: Exception, num_outputs: int
) -> None:
    client = FakeClient(lambda submit: [*short_answers(submit)[:num_outputs], error])
    provider = make_provider(client)
    with pytest.raises(type(error)):
        run(provider, request())
    assert provider.num_pending == 0
    assert client.num_closed == 1


def test_a_client_that_is_not_ready_is_overloaded() -> None:
    client = FakeClient(short_answers)
    client.ready = False
    provider = make_provider(client)
    assert not provider.is_ready
    with pytest.raises(EngineOverloaded):
        run(provider, request())
    assert (provider.num_pending, client.submitted) == (0, [])


def test_closing_the_stream_closes_the_clients_stream_before_it_returns() -> None:
    client = FakeClient(short_answers)
    provider = make_provider(client)

    async def leave_early() -> None:
        stream = provider.generate(request())
        await anext(stream)
        await anext(stream)
        assert client.num_closed == 0
        await stream.aclose()
        assert client.num_closed == 1
        assert provider.num_pending == 0

    asyncio.run(leave_early())


def test_cancelling_a_reader_closes_the_clients_stream() -> None:
    client = FakeClient(short_answers)

    async def hang(submit: Submit) -> AsyncGenerator[SequenceOutput, None]:
        try:
            yield output(0, "Hel")
            await asyncio.sleep(30)
        finally:
            client.num_closed += 1

    client.submit = hang  # type: ignore[method-assign]
    provider = make_provider(client)

    async def read() -> None:
        async with aclosing(provider.generate(request())) as events:
            async for _ in events:
                pass

    async def cancel() -> None:
        task = asyncio.create_task(read())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait({task}, timeout=1)
        assert task.cancelled()
        assert (client.num_closed, provider.num_pending) == (1, 0)

    asyncio.run(cancel())


def test_long_texts_are_tokenised_in_another_thread_and_short_ones_in_this() -> None:
    client = FakeClient(short_answers, max_model_len=10 * LONG_TEXT_CHARS)
    here = threading.get_ident()
    for num_chars, is_here in ((LONG_TEXT_CHARS, True), (LONG_TEXT_CHARS + 1, False)):
        for text in ({"messages": (Message("user", "x" * num_chars),)}, {"prompts": "x"}):
            if "prompts" in text:
                text = {"prompts": ("x" * num_chars,)}
            tokenizer = NotingTokenizer()
            events = run(make_provider(client, tokenizer=tokenizer), request(**text))
            assert usage_of(events).prompt_tokens in (num_chars, num_chars + 1)
            assert (tokenizer.threads == {here}) == is_here
