"""Frames between the processes: whole, in pieces, and broken."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider.engine.protocol import (
    MAX_FRAME_BYTES,
    Abort,
    Drain,
    Failed,
    Outputs,
    Ready,
    Rejected,
    SequenceOutput,
    Stats,
    Submit,
    client_decoder,
    encode_frame,
    engine_decoder,
)
from outrider.errors import InvalidRequest
from outrider.text.image_tiles import TiledImage
from outrider.types import Grammar, SamplingParams, TokenAlternative, TokenLogprob

IMAGE = TiledImage(1, 1, bytes(range(48)), "digest")
TO_ENGINE = [
    Submit("a", ((1, 2), (3,)), SamplingParams(stop=("x",), logit_bias={5: -1.5}, seed=2**64 - 1)),
    Submit("b", ((1, 93),), SamplingParams(), images=(IMAGE,), grammar=Grammar("regex", "a+")),
    Abort("a"),
    Drain(),
]
LOGPROB = TokenLogprob(5, b"\xff", -0.5, (TokenAlternative(5, b"\xff", -0.5),))
FROM_ENGINE = [
    Ready(1, 2, 3, 4),
    Failed("no such model"),
    Outputs([SequenceOutput("a", 0, "é", (5,), (LOGPROB,), "stop", 2, 0, 1)]),
    Rejected("a", "invalid_request", "no", "prompt"),
    Stats(num_steps=5),
]


@given(cuts=st.lists(st.integers(1, 40)))
def test_messages_survive_any_cut_of_the_stream(cuts: list[int]) -> None:
    for messages, decoder in ((TO_ENGINE, engine_decoder()), (FROM_ENGINE, client_decoder())):
        data = b"".join(encode_frame(message) for message in messages)
        received = []
        for cut in [*cuts, len(data)]:
            received += decoder.feed(data[:cut])
            data = data[cut:]
        received += decoder.feed(data)
        assert received == messages


def test_an_absurd_length_is_refused_before_it_is_waited_for() -> None:
    with pytest.raises(ValueError, match="stream is broken"):
        engine_decoder().feed((MAX_FRAME_BYTES + 1).to_bytes(4, "little"))


def test_a_message_of_the_other_direction_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        engine_decoder().feed(encode_frame(Stats()))


def test_a_request_that_is_too_long_for_a_frame_is_refused_with_both_numbers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("outrider.engine.protocol.MAX_FRAME_BYTES", 5000)
    image = TiledImage(1, 1, bytes(5000), "digest")
    with pytest.raises(InvalidRequest, match=r"has 5,3\d\d bytes .* at most 5,000 are") as caught:
        encode_frame(Submit("a", ((1,),), SamplingParams(), images=(image,)))
    assert caught.value.param == "images"


def test_a_decoder_knows_when_the_rest_of_a_message_is_missing() -> None:
    decoder = engine_decoder()
    frame = encode_frame(Abort("a"))
    assert not decoder.is_partial
    decoder.feed(frame + frame[:3])
    assert decoder.is_partial
    assert decoder.feed(frame[3:]) == [Abort("a")]
    assert not decoder.is_partial
