"""The main loop of an engine process, over a socket and with a real process."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from fake_engine import LARGE_VISION, PATCH, make_image
from outrider.config import EngineConfig
from outrider.engine.protocol import (
    Abort,
    Drain,
    Embed,
    Embedded,
    Failed,
    FromEngine,
    Outputs,
    Ready,
    Rejected,
    Stats,
    Submit,
    ToEngine,
    client_decoder,
    encode_frame,
)
from outrider.types import SamplingParams

SCRIPT = Path(__file__).parent.parent / "fake_engine.py"
ENDLESS = SamplingParams(temperature=0, ignore_eos=True)
SHORT = SamplingParams(temperature=0, ignore_eos=True, max_tokens=5)


class Peer:
    """The client's end: an engine process and its socket."""

    def __init__(self, model: str, embedding_model: str = "", **settings: Any) -> None:
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(20)
        self.decoder = client_decoder()
        config = msgspec.json.encode(EngineConfig(model=model, **settings)).decode()
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), config, str(theirs.fileno()), embedding_model],
            pass_fds=[theirs.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )
        theirs.close()
        self.messages: list[FromEngine] = []
        self.num_seen = 0

    def send(self, *messages: ToEngine) -> None:
        self.socket.sendall(b"".join(encode_frame(message) for message in messages))

    def wait_for(self, is_wanted: Callable[[Any], bool]) -> Any:
        """Read until a message is the wanted one; keeps everything read in `messages`."""
        while True:
            # What arrived together with the last wanted one counts, too.
            while self.num_seen < len(self.messages):
                self.num_seen += 1
                if is_wanted(self.messages[self.num_seen - 1]):
                    return self.messages[self.num_seen - 1]
            data = self.socket.recv(1 << 20)
            assert data, "the engine process closed its socket"
            self.messages += self.decoder.feed(data)

    def finish(self) -> tuple[int, str]:
        _, stderr = self.process.communicate(timeout=20)
        return self.process.returncode, stderr


Start = Callable[..., Peer]


@pytest.fixture
def start() -> Iterator[Start]:
    peers = []

    def start_peer(model: str = "hash", **settings: Any) -> Peer:
        peers.append(Peer(model, **settings))
        return peers[-1]

    yield start_peer
    for peer in peers:
        peer.socket.close()
        peer.process.kill()
        peer.process.communicate()


def submit(request_id: str, sampling: SamplingParams) -> Submit:
    return Submit(request_id, ((1, 2, 3),), sampling)


def has_output_of(request_id: str) -> Callable[[FromEngine], bool]:
    return lambda message: (
        isinstance(message, Outputs)
        and any(output.request_id == request_id for output in message.outputs)
    )


def has_finished(request_id: str) -> Callable[[FromEngine], bool]:
    return lambda message: (
        isinstance(message, Outputs)
        and any(
            output.request_id == request_id and output.finish_reason for output in message.outputs
        )
    )


def is_a(kind: type) -> Callable[[FromEngine], bool]:
    return lambda message: isinstance(message, kind)


def test_it_says_that_it_is_ready_and_answers(start: Start) -> None:
    peer = start(max_model_len=100)
    peer.send(submit("a", SHORT))
    assert peer.wait_for(is_a(Ready)) == Ready(peer.process.pid, 100, 64, 16)
    peer.wait_for(has_finished("a"))
    outputs = [m.outputs[0] for m in peer.messages if isinstance(m, Outputs)]
    assert [output.num_output_tokens for output in outputs] == [1, 2, 3, 4, 5]
    stats = peer.wait_for(is_a(Stats))
    assert (stats.num_output_tokens, stats.num_running, stats.num_free_blocks) == (5, 0, 64)
    assert stats.resident_bytes > 1 << 20


def test_an_abort_takes_effect_within_one_step(start: Start) -> None:
    peer = start("slow")
    peer.send(submit("gone", ENDLESS), submit("kept", ENDLESS))
    peer.wait_for(has_output_of("gone"))
    peer.send(Abort("gone"), submit("late", SHORT))
    peer.wait_for(has_finished("late"))
    # `late` got its first token in the first step that began after the abort was read.
    first = next(index for index, m in enumerate(peer.messages) if has_output_of("late")(m))
    assert not any(has_output_of("gone")(message) for message in peer.messages[first:])
    assert has_output_of("kept")(peer.messages[first])


def test_a_bad_request_is_rejected_and_others_go_on(start: Start) -> None:
    peer = start(max_model_len=100)
    bad = Submit("bad", ((500,),), SHORT)
    long = Submit("long", ((5,) * 100,), SHORT)
    peer.send(submit("a", SHORT), bad, long)
    rejected = peer.wait_for(is_a(Rejected))
    assert (rejected.request_id, rejected.code, rejected.param) == (
        "bad",
        "invalid_request",
        "prompt",
    )
    peer.wait_for(has_finished("a"))
    (long_rejected,) = [m for m in peer.messages if is_a(Rejected)(m) and m.request_id == "long"]
    assert long_rejected.code == "context_length_exceeded"
    assert (long_rejected.num_prompt_tokens, long_rejected.max_model_len) == (100, 100)


def test_texts_are_embedded_between_the_steps_of_a_stream(start: Start) -> None:
    peer = start("slow", embedding_model="fake")
    peer.send(submit("stream", SamplingParams(temperature=0, ignore_eos=True, max_tokens=30)))
    peer.wait_for(has_output_of("stream"))
    peer.send(Embed("texts", ((3, 4), (5,))))
    embedded = peer.wait_for(is_a(Embedded))
    assert embedded == Embedded("texts", np.array([[2, 7, 3, 0], [1, 5, 5, 0]], "<f4").tobytes())
    peer.wait_for(has_finished("stream"))
    peer.send(Embed("more", ((9,) * 700,)), Embed("last", ((9,),)), Drain())
    assert peer.wait_for(is_a(Rejected)).code == "context_length_exceeded"
    assert peer.wait_for(is_a(Embedded)).request_id == "last"
    assert peer.finish() == (0, "")


def test_engine_without_an_embedding_model_refuses_texts(start: Start) -> None:
    peer = start()
    peer.send(Embed("texts", ((3, 4),)))
    assert "no embedding model" in peer.wait_for(is_a(Rejected)).message


@pytest.mark.parametrize("how", ["message", "SIGTERM"])
def test_drain_finishes_what_runs_refuses_what_comes_and_exits(start: Start, how: str) -> None:
    peer = start("slow")
    peer.send(submit("running", SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)))
    peer.wait_for(has_output_of("running"))
    if how == "message":
        peer.send(Drain())
    else:
        peer.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    peer.send(submit("late", SHORT))
    rejected = peer.wait_for(is_a(Rejected))
    assert (rejected.request_id, rejected.code) == ("late", "engine_overloaded")
    peer.wait_for(has_finished("running"))
    assert peer.finish() == (0, "")


@pytest.mark.parametrize("how", ["message", "SIGTERM"])
def test_an_idle_process_drains_at_once(start: Start, how: str) -> None:
    peer = start()
    peer.wait_for(is_a(Ready))
    if how == "message":
        peer.send(Drain())
    else:
        peer.process.send_signal(signal.SIGTERM)
    assert peer.finish() == (0, "")


@pytest.mark.parametrize("sampling", [None, ENDLESS], ids=["idle", "busy"])
def test_it_exits_when_its_parent_is_gone(start: Start, sampling: SamplingParams | None) -> None:
    peer = start("slow", max_model_len=1000)
    peer.wait_for(is_a(Ready))
    if sampling is not None:
        peer.send(submit("a", sampling))
        peer.wait_for(has_output_of("a"))
    peer.socket.close()
    assert peer.finish() == (0, "")


def test_it_leaves_ctrl_c_to_its_parent(start: Start) -> None:
    peer = start()
    peer.wait_for(is_a(Ready))
    peer.process.send_signal(signal.SIGINT)
    peer.send(submit("a", SHORT))
    peer.wait_for(has_finished("a"))


def test_a_model_that_cannot_be_loaded_is_one_line_and_exit_code_2(start: Start) -> None:
    peer = start("missing")
    assert peer.wait_for(is_a(Failed)).message == "there is no model named missing; pull one first"
    assert peer.finish() == (2, "there is no model named missing; pull one first\n")


def test_a_step_that_raises_ends_the_process_with_a_traceback(start: Start) -> None:
    peer = start("broken")
    peer.send(submit("a", SHORT))
    returncode, stderr = peer.finish()
    assert returncode == 1
    assert "the engine for broken stops after an error" in stderr
    assert "RuntimeError: the kernel exploded" in stderr


def test_a_client_that_does_not_read_stops_the_engine_but_not_its_ears(start: Start) -> None:
    peer = start(max_model_len=1000, max_num_seqs=64)
    peer.wait_for(is_a(Ready))
    logprobs = SamplingParams(temperature=0, ignore_eos=True, logprobs=20, n=64)
    for number in range(3):
        peer.send(submit(str(number), logprobs))
    assert _settles(lambda: _cpu_time_s(peer.process.pid)), "it burns time while nobody reads"
    peer.send(Abort("0"), Abort("1"), Abort("2"), submit("late", SHORT))
    peer.wait_for(has_finished("late"))


def test_a_request_with_a_large_image_arrives_within_a_few_steps(start: Start) -> None:
    peer = start("sees", max_model_len=5000)
    peer.send(submit("text", ENDLESS))
    peer.wait_for(has_output_of("text"))
    image = make_image(4, 4, vision=LARGE_VISION)
    assert len(image.pixels) == 17 * 336 * 336 * 3
    before = len(peer.messages)
    peer.send(Submit("image", ((1, *[PATCH] * 17, 2),), SHORT, images=(image,)))
    peer.wait_for(has_finished("image"))
    first = next(index for index, m in enumerate(peer.messages) if has_output_of("image")(m))
    num_steps = sum(isinstance(message, Outputs) for message in peer.messages[before:first])
    # 17 tiles, one a step, and the last one's gives the first token; and far fewer than the 28
    # times that the socket is filled.
    assert 16 <= num_steps < 17 + 20
    peer.send(Abort("text"))
    assert peer.wait_for(lambda m: isinstance(m, Stats) and m.num_running == 0)
    stats = [message for message in peer.messages if isinstance(message, Stats)][-1]
    assert (stats.num_encoded_images, stats.num_encoded_tiles) == (1, 17)


def _cpu_time_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _settles(measure: Callable[[], float], timeout_s: float = 60) -> bool:
    """Wait until a measure stays the same for half a second."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        before = measure()
        time.sleep(0.5)
        if measure() == before:
            return True
    return False
