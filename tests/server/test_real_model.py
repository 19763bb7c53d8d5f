"""Tests of `outrider serve` as a process with the default model, through OpenAI's own client."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from server.processes import PATIENCE_S, STORY, Process, serve

pytestmark = pytest.mark.real_model


@pytest.fixture(scope="module")
def server(model_path: Path) -> Iterator[Process]:
    with serve(model_path) as it:
        yield it


def text_of(chunks: Any) -> str:
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def test_text_is_streamed_piece_by_piece(server: Process) -> None:
    chunks = list(server.stream(24, stream_options={"include_usage": True}, temperature=0))
    assert chunks[-1].usage.completion_tokens == 24
    assert len([c for c in chunks if c.choices and c.choices[0].delta.content]) > 8
    assert text_of(chunks) == server.text(
        max_tokens=24, temperature=0, extra_body={"ignore_eos": True}
    )


def test_a_stop_string_ends_the_text_before_it(server: Process) -> None:
    whole = server.text(max_tokens=40, temperature=0)
    stop = whole.split()[5]
    answer = server.client.chat.completions.create(
        model=server.model, messages=STORY, max_tokens=40, temperature=0, stop=[stop]
    )
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content == whole[: whole.index(stop)]


def test_a_seed_gives_the_same_text_also_while_others_run(server: Process) -> None:
    def one(_: int = 0) -> str:
        return server.text(max_tokens=32, temperature=1.0, seed=1234)

    alone = one()
    assert one() == alone
    with ThreadPoolExecutor(9) as pool:
        others = [pool.submit(server.text, max_tokens=32, temperature=1.0) for _ in range(6)]
        seeded = list(pool.map(one, range(3)))
        texts = {other.result() for other in others}
    assert seeded == [alone] * 3
    assert len(texts | {alone}) > 2


def test_logprobs_have_the_wanted_alternatives(server: Process) -> None:
    answer = server.client.chat.completions.create(
        model=server.model,
        messages=STORY,
        max_tokens=8,
        temperature=0,
        logprobs=True,
        top_logprobs=4,
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    entries = logprobs.content or []
    assert len(entries) == 8
    text = b"".join(bytes(entry.bytes or []) for entry in entries).decode()
    assert text == answer.choices[0].message.content
    for entry in entries:
        values = [top.logprob for top in entry.top_logprobs]
        assert len(values) == 4
        assert values == sorted(values, reverse=True)
        assert entry.token == entry.top_logprobs[0].token  # greedy
        assert entry.logprob == pytest.approx(values[0])
        assert all(value <= 0 for value in values)


def test_a_prediction_changes_the_usage_and_no_token(server: Process) -> None:
    def ask(**fields: Any) -> Any:
        return server.client.chat.completions.create(
            model=server.model, messages=STORY, max_tokens=24, temperature=0, **fields
        )

    plain = ask()
    text = plain.choices[0].message.content
    predicted = ask(prediction={"type": "content", "content": text + " And that is all."})
    assert predicted.choices == plain.choices
    for answer, least, most in ((plain, 0, 0), (predicted, 20, 24)):
        details = answer.usage.completion_tokens_details
        assert least <= details.accepted_prediction_tokens <= most
        assert (details.rejected_prediction_tokens > 0) == (most > 0)
        assert answer.usage.completion_tokens == 24


def test_three_choices_are_three_texts(server: Process) -> None:
    answer = server.client.chat.completions.create(
        model=server.model, messages=STORY, max_tokens=16, temperature=1.2, seed=5, n=3
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in answer.choices}) > 1
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 48


def test_aborted_streams_leave_nothing_behind(server: Process) -> None:
    chances = random.Random(42)
    plans = [(i, chances.randrange(1, 16) if i % 2 else None) for i in range(64)]

    def run(plan: tuple[int, int | None]) -> str:
        index, leave_after = plan
        messages: Any = [{"role": "user", "content": f"Count from {index} upwards, in words."}]
        with server.stream(24, messages=messages) as chunks:
            for count, _ in enumerate(chunks):
                if leave_after is not None and count >= leave_after:
                    return "left"
        return "done"

    with ThreadPoolExecutor(64) as pool:
        results = list(pool.map(run, plans))
    assert results == ["left" if leave_after else "done" for _, leave_after in plans]
    server.wait_until(
        lambda status, model: (
            status == 200
            and model["running"] == model["waiting"] == model["pending"] == 0
            and model["kv_free_blocks"] == model["kv_blocks"] > 0
        ),
        limit_s=10,
    )
    assert server.health()[1]["restarts"] == 0


def test_a_killed_engine_fails_its_streams_and_comes_back(model_path: Path) -> None:
    with serve(model_path, "--embedding-model", "none") as server:
        model = server.model
        pid = server.health()[1]["pid"]
        barrier = threading.Barrier(9)

        def run(_: int) -> str:
            try:
                with server.stream(1500) as chunks:
                    iterator = iter(chunks)
                    next(iterator)
                    barrier.wait(PATIENCE_S)
                    for _chunk in iterator:
                        pass
            except openai.APIError as error:
                return str(error)
            return "finished"

        with ThreadPoolExecutor(8) as pool:
            running = [pool.submit(run, index) for index in range(8)]
            barrier.wait(PATIENCE_S)
            os.kill(pid, signal.SIGKILL)
            begin = time.monotonic()
            assert [each.id for each in server.client.models.list()] == [model]
            assert time.monotonic() - begin < 1
            messages = [each.result(PATIENCE_S) for each in running]
        assert all("killed by signal 9" in message for message in messages), messages
        server.wait_until(lambda status, _: status == 200, PATIENCE_S)
        health = server.health()[1]
        assert health["pid"] != pid
        assert health["restarts"] == 1
        assert server.text(max_tokens=4)


def test_sigterm_lets_a_stream_finish_and_exits_with_0(model_path: Path) -> None:
    with serve(model_path) as server:
        chunks = iter(server.stream(100, stream_options={"include_usage": True}))
        seen = [next(chunks)]
        server.process.send_signal(signal.SIGTERM)
        seen += chunks
        assert seen[-1].usage.completion_tokens == 100
        assert server.process.wait(PATIENCE_S) == 0


def test_the_http_process_of_a_packed_model_loads_neither_numpy_nor_pillow(
    model_path: Path,
) -> None:
    with serve(model_path):
        pass  # packs the model if nobody has yet
    with serve(model_path) as server:
        mapped = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "msgspec" in mapped  # the compiled modules of a process are listed there
        for name in ("numpy", "PIL", "llguidance"):
            assert name not in mapped
