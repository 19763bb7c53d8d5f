"""The supervisor with real engine processes: streams, kills, restarts, draining."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from outrider.config import EngineConfig
from outrider.engine.client import EngineClient, Timing
from outrider.engine.protocol import Embed, SequenceOutput, Submit
from outrider.errors import (
    ConfigError,
    ContextLengthExceeded,
    EngineFailed,
    EngineOverloaded,
    InvalidRequest,
)
from outrider.types import SamplingParams

SCRIPT = Path(__file__).parent.parent / "fake_engine.py"
COMMAND = (sys.executable, str(SCRIPT))
ENDLESS = SamplingParams(temperature=0, ignore_eos=True)
SHORT = SamplingParams(temperature=0, ignore_eos=True, max_tokens=5)


def asynchronous(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 60))

    return run


def make_client(model: str = "hash", timing: Timing | None = None, **settings: Any) -> EngineClient:
    return EngineClient(EngineConfig(model=model, **settings), COMMAND, timing)


@asynccontextmanager
async def started(model: str = "hash", **arguments: Any) -> AsyncIterator[EngineClient]:
    client = make_client(model, **arguments)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def collect(client: EngineClient, request: Submit) -> list[SequenceOutput]:
    return [output async for output in client.submit(request)]


async def until(is_true: Callable[[], bool]) -> None:
    while not is_true():
        await asyncio.sleep(0.01)


def submit(request_id: str = "a", sampling: SamplingParams = SHORT) -> Submit:
    return Submit(request_id, ((1, 2, 3),), sampling)


def pid_of(client: EngineClient) -> int:
    assert client.info is not None
    return client.info.pid


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@asynchronous
async def test_requests_run_together_and_stats_arrive() -> None:
    async with started() as client:
        assert client.ready
        assert client.max_model_len == 512
        requests = [submit(str(number)) for number in range(20)]
        results = await asyncio.gather(*(collect(client, request) for request in requests))
        for outputs in results:
            assert [output.num_output_tokens for output in outputs] == [1, 2, 3, 4, 5]
            assert outputs[-1].finish_reason == "length"
        await until(lambda: client.stats.num_output_tokens == 100)
        assert client.stats.num_free_blocks == client.stats.num_blocks


@asynchronous
async def test_all_choices_of_all_prompts_are_awaited() -> None:
    async with started() as client:
        sampling = SamplingParams(n=3, max_tokens=4, ignore_eos=True)
        outputs = await collect(client, Submit("a", ((1,), (2, 3)), sampling))
        assert len(outputs) == 2 * 3 * 4
        assert {output.index for output in outputs} == set(range(6))


@asynchronous
async def test_errors_of_a_request_are_those_of_the_engine() -> None:
    async with started(max_model_len=64) as client:
        with pytest.raises(InvalidRequest, match="empty") as empty:
            await collect(client, Submit("a", ((),), SHORT))
        assert empty.value.param == "prompt"
        with pytest.raises(ContextLengthExceeded) as too_long:
            await collect(client, Submit("b", ((1,) * 70,), SHORT))
        assert too_long.value.num_prompt_tokens == 70
        assert too_long.value.max_model_len == 64
        assert len(await collect(client, submit("c"))) == 5


@asynchronous
async def test_a_request_id_is_used_once_at_a_time() -> None:
    async with started("slow") as client, aclosing(client.submit(submit("a", ENDLESS))) as stream:
        await anext(stream)
        with pytest.raises(InvalidRequest, match="already running"):
            await collect(client, submit("a"))
        await anext(stream)


@asynchronous
async def test_a_closed_stream_is_aborted_in_the_engine() -> None:
    async with started("slow") as client:
        async with aclosing(client.submit(submit("a", ENDLESS))) as stream:
            await anext(stream)
        await until(lambda: client.stats.num_steps > 0 and client.stats.num_running == 0)
        assert client.stats.num_free_blocks == client.stats.num_blocks
        task = asyncio.create_task(collect(client, submit("b", ENDLESS)))
        await until(lambda: client.stats.num_running == 1)
        task.cancel()
        await until(lambda: client.stats.num_running == 0)


@asynchronous
async def test_a_killed_process_fails_its_streams_at_once_and_is_restarted() -> None:
    async with started("slow") as client:
        old_pid = pid_of(client)
        streams = [client.submit(submit(str(number), ENDLESS)) for number in range(5)]
        for stream in streams:
            await anext(stream)
        os.kill(old_pid, signal.SIGKILL)
        killed_s = time.monotonic()
        for stream in streams:
            with pytest.raises(EngineFailed, match=r"for slow was killed by signal 9 .*try again"):
                while True:
                    await anext(stream)
        assert time.monotonic() - killed_s < 1
        assert not client.ready
        with pytest.raises(EngineOverloaded) as caught:
            await collect(client, submit("early"))
        assert caught.value.retry_after_s >= 1
        await until(lambda: client.ready)
        assert pid_of(client) != old_pid
        assert client.restarts == 1
        assert len(await collect(client, submit("next"))) == 5


@asynchronous
async def test_a_step_that_raises_fails_every_request_and_restarts() -> None:
    async with started("broken") as client:
        with pytest.raises(EngineFailed, match="exited with code 1"):
            await collect(client, submit())
        await until(lambda: client.ready)


@asynchronous
async def test_restarts_are_delayed_more_and_more_until_one_stays_healthy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    timing = Timing(first_backoff_s=0.01, max_backoff_s=0.04, healthy_s=30)
    with caplog.at_level(logging.ERROR, "outrider.engine.client"):
        async with started(timing=timing) as client:
            for restarts in range(1, 5):
                os.kill(pid_of(client), signal.SIGKILL)
                await until(lambda count=restarts: client.ready and client.restarts == count)
    delays = [record.args[2] for record in caplog.records]
    assert delays == [0.01, 0.02, 0.04, 0.04]
    caplog.clear()
    timing = Timing(first_backoff_s=0.01, healthy_s=0)
    with caplog.at_level(logging.ERROR, "outrider.engine.client"):
        async with started(timing=timing) as client:
            for restarts in range(1, 4):
                os.kill(pid_of(client), signal.SIGKILL)
                await until(lambda count=restarts: client.ready and client.restarts == count)
    assert [record.args[2] for record in caplog.records] == [0.01, 0.01, 0.01]


@asynchronous
async def test_a_model_that_is_gone_at_a_restart_is_retried_with_the_longest_delay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = tmp_path / "model"
    model.touch()
    timing = Timing(first_backoff_s=0.01, max_backoff_s=0.2)
    async with started(f"file:{model}", timing=timing) as client:
        model.unlink()
        os.kill(pid_of(client), signal.SIGKILL)
        await until(lambda: "can't load its model: there is no file" in caplog.text)
        assert caplog.records[-1].args[2] == 0.2
        model.touch()
        await until(lambda: client.ready)


@asynchronous
async def test_a_first_start_that_cannot_succeed_raises(capfd: pytest.CaptureFixture[str]) -> None:
    client = make_client("missing")
    with pytest.raises(ConfigError, match="there is no model named missing"):
        await client.start()
    assert not client.ready
    with pytest.raises(EngineFailed, match=r"was killed by signal 9 .* before it was ready"):
        await make_client("dies").start()
    missing = EngineClient(EngineConfig(), ["/nonexistent/python"])
    with pytest.raises(EngineFailed, match="can't be started"):
        await missing.start()
    capfd.readouterr()


@asynchronous
async def test_a_process_that_talks_nonsense_is_an_error_not_a_hang() -> None:
    script = "import socket, sys; s = socket.socket(fileno=int(sys.argv[2])); s.send(b'x' * 99)"
    client = EngineClient(EngineConfig(), [sys.executable, "-c", script])
    with pytest.raises(EngineFailed, match="can't be read"):
        await client.start()


@asynchronous
async def test_drain_lets_running_requests_finish_and_refuses_new_ones() -> None:
    async with started("slow") as client:
        pid = pid_of(client)
        task = asyncio.create_task(collect(client, submit("a")))
        await asyncio.sleep(0.05)
        drained = asyncio.create_task(client.drain(10))
        await asyncio.sleep(0)
        assert not client.ready
        with pytest.raises(EngineOverloaded, match="shutting down"):
            await collect(client, submit("late"))
        assert len(await task) == 5
        await drained
        assert not is_alive(pid)
        assert client.restarts == 0


@asynchronous
async def test_drain_ends_what_takes_too_long() -> None:
    async with started("slow") as client:
        pid = pid_of(client)
        task = asyncio.create_task(collect(client, submit("a", ENDLESS)))
        await asyncio.sleep(0.05)
        await client.drain(0.1)
        with pytest.raises(EngineFailed, match="shutting down"):
            await task
        assert not is_alive(pid)


@pytest.mark.parametrize("model", ["hash", "stuck"])
@asynchronous
async def test_close_is_quick_and_leaves_no_process(model: str) -> None:
    client = make_client(model, timing=Timing(stop_s=0.2))
    await client.start()
    pid = pid_of(client)
    task = asyncio.create_task(collect(client, submit("running", ENDLESS)))
    await asyncio.sleep(0.1)
    begin_s = time.monotonic()
    await client.close()
    await client.close()
    assert time.monotonic() - begin_s < 2
    assert not is_alive(pid)
    with pytest.raises(EngineFailed, match="shutting down"):
        await task
    with pytest.raises(EngineOverloaded):
        await collect(client, submit())


@asynchronous
async def test_closing_during_the_start_ends_both() -> None:
    client = make_client("slow to load", timing=Timing(stop_s=0.1))
    start = asyncio.create_task(client.start())
    await asyncio.sleep(0.3)
    await client.close()
    await _ends(start)
    client = make_client("slow to load", timing=Timing(stop_s=0.1))
    start = asyncio.create_task(client.start())
    await asyncio.sleep(0.3)
    start.cancel()
    await _ends(start)


async def _ends(task: asyncio.Task[None]) -> None:
    done, _ = await asyncio.wait({task}, timeout=5)
    assert done
    assert task.cancelled()


@asynchronous
async def test_random_aborts_of_many_streams_leave_nothing_behind() -> None:
    async with started(max_num_seqs=16) as client:

        async def read(number: int) -> None:
            sampling = SamplingParams(seed=number, max_tokens=60, ignore_eos=True)
            async with aclosing(client.submit(submit(str(number), sampling))) as stream:
                async for output in stream:
                    if output.num_output_tokens > number % 60:
                        break

        jobs: list[Awaitable[None]] = [read(number) for number in range(64)]
        await asyncio.gather(*jobs)
        assert len(await collect(client, submit("last"))) == 5
        await until(lambda: client.stats.num_running == 0 and client.stats.num_waiting == 0)
        assert client.stats.num_free_blocks == client.stats.num_blocks
        await asyncio.sleep(0.4)  # the engine checks its invariants when it is quiet
        assert client.restarts == 0


@asynchronous
async def test_texts_become_vectors_and_refusals_become_errors() -> None:
    client = EngineClient(EngineConfig(model="hash"), COMMAND, embedding_model="fake")
    with pytest.raises(EngineOverloaded, match="is being started"):
        await client.embed(Embed("early", ((3, 4),)))
    await client.start()
    try:
        assert struct.unpack("<4f", await client.embed(Embed("a", ((3, 4),)))) == (2, 7, 3, 0)
        with pytest.raises(InvalidRequest, match="unknown token id"):
            await client.embed(Embed("a", ((1000,),)))
        embedding = asyncio.create_task(client.embed(Embed("b", ((3,) * 500,) * 200)))
        await asyncio.sleep(0)
        embedding.cancel()
        await asyncio.wait({embedding})
        assert struct.unpack("<4f", await client.embed(Embed("b", ((5,),)))) == (1, 5, 5, 0)
    finally:
        await client.close()


@asynchronous
async def test_texts_fail_when_their_process_dies() -> None:
    client = EngineClient(EngineConfig(model="stuck"), COMMAND, embedding_model="fake")
    await client.start()
    try:
        streaming = asyncio.create_task(collect(client, submit("stream")))
        await asyncio.sleep(0.2)  # the process is inside a step of a minute
        embedding = asyncio.create_task(client.embed(Embed("a", ((3, 4),))))
        await asyncio.sleep(0.1)
        os.kill(pid_of(client), signal.SIGKILL)
        with pytest.raises(EngineFailed, match="was killed by signal 9"):
            await embedding
        with pytest.raises(EngineFailed):
            await streaming
    finally:
        await client.close()
