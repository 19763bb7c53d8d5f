"""Detokenizer: one law (deltas are the text up to the first stop) for every cut into tokens."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outrider.engine.detokenizer import Detokenizer

SPECIAL = 0


class TokenTable:
    """Tokens that are these byte strings; id 0 is a control token."""

    def __init__(self, tokens: list[bytes]) -> None:
        self._tokens = [b"<|end|>", *tokens]

    def token_bytes(self, token_id: int) -> bytes:
        return self._tokens[token_id]

    def is_special(self, token_id: int) -> bool:
        return token_id == SPECIAL


def run(tokens: list[bytes], stop: tuple[str, ...]) -> tuple[list[str], bool]:
    detokenizer = Detokenizer(TokenTable(tokens), stop)
    deltas, is_stopped = [], False
    for token_id in range(1, len(tokens) + 1):
        delta, is_stopped = detokenizer.push(token_id)
        deltas.append(delta)
        if is_stopped:
            break
    return [*deltas, detokenizer.flush()], is_stopped


def cut_at_first_stop(text: str, stop: tuple[str, ...]) -> str:
    for end in range(1, len(text) + 1):
        lengths = [len(s) for s in stop if text[:end].endswith(s)]
        if lengths:
            return text[: end - max(lengths)]
    return text


# Few characters, so that stop strings occur, overlap and nearly occur.
LETTERS = st.sampled_from(["a", "b", "ab", "aab", "é", "日", "🙂", "\ufffd"])
STOPS = st.lists(st.lists(LETTERS, min_size=1, max_size=4).map("".join), max_size=4).map(tuple)
STREAMS = st.lists(
    st.one_of(LETTERS.map(str.encode), st.sampled_from([b"\xf0\x9f", b"\xc3", b"\xa9", b"\xff"])),
    max_size=20,
).map(b"".join)


@st.composite
def cut_streams(draw: st.DrawFn) -> list[bytes]:
    stream = draw(STREAMS)
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=len(stream))))
    return [stream[i:j] for i, j in zip([0, *cuts], [*cuts, len(stream)], strict=True)]


@given(tokens=cut_streams(), stop=STOPS)
@example(tokens=[b"x\xe6", b"\x97", b"\xa5y"], stop=("日",))
@example(tokens=[b"aaab"], stop=("aab",))
@example(tokens=[b"a", b"a", b"\xc3"], stop=("a\ufffd",))
def test_deltas_are_the_text_up_to_the_first_stop(
    tokens: list[bytes], stop: tuple[str, ...]
) -> None:
    text = b"".join(tokens).decode("utf-8", "replace")
    deltas, _ = run(tokens, stop)
    assert "".join(deltas) == cut_at_first_stop(text, stop)


@given(tokens=cut_streams(), stop=STOPS)
def test_stopping_is_said_with_the_token_that_completes_the_stop(
    tokens: list[bytes], stop: tuple[str, ...]
) -> None:
    detokenizer = Detokenizer(TokenTable(tokens), stop)
    seen = b""
    for token_id, token in enumerate(tokens, start=1):
        _, is_stopped = detokenizer.push(token_id)
        seen += token
        # Characters that may still grow are not text yet.
        text = _complete_part(seen)
        assert is_stopped == any(s in text for s in stop)


def _complete_part(data: bytes) -> str:
    """Decode without an incomplete character at the end."""
    for length in range(min(3, len(data)), 0, -1):
        tail = data[-length:]
        needs = 4 if tail[0] >= 0xF0 else 3 if tail[0] >= 0xE0 else 2 if tail[0] >= 0xC2 else 1
        if tail[0] <= 0xF4 and length < needs and tail.decode("utf-8", "replace") == "\ufffd":
            return data[:-length].decode("utf-8", "replace")
    return data.decode("utf-8", "replace")


@given(tokens=cut_streams())
def test_without_stop_strings_nothing_but_incomplete_characters_waits(tokens: list[bytes]) -> None:
    detokenizer = Detokenizer(TokenTable(tokens))
    text = "".join(detokenizer.push(token_id)[0] for token_id in range(1, len(tokens) + 1))
    assert text == _complete_part(b"".join(tokens))


@pytest.mark.parametrize(
    ("tokens", "stop", "deltas"),
    [
        ([b"Hello", b" wor", b"ld"], ("lo w",), ["Hel", ""]),
        ([b"one\n", b"\ntwo"], ("\n\n",), ["one", ""]),
        ([b"one\n", b"two"], ("\n\n",), ["one", "\ntwo", ""]),
        ([b"ab", b"c"], ("abcd", "bc"), ["", "a"]),
        ([b"abc"], ("bc", "abc"), [""]),
        ([b"EN", b"D"], ("END",), ["", ""]),
        ([b"EN"], ("END",), ["", "EN"]),
        ([b"\xf0\x9f", b"\x99\x82!"], (), ["", "🙂!", ""]),
        ([b"\xf0\x9f"], (), ["", "\ufffd"]),
    ],
)
def test_examples(tokens: list[bytes], stop: tuple[str, ...], deltas: list[str]) -> None:
    produced, is_stopped = run(tokens, stop)
    if is_stopped:
        assert produced.pop() == ""
    assert produced == deltas


def test_control_tokens_give_no_text_and_end_no_character() -> None:
    detokenizer = Detokenizer(TokenTable([b"\xc3", b"\xa9"]), ("|",))
    assert detokenizer.push(1) == ("", False)
    assert detokenizer.push(SPECIAL) == ("", False)
    assert detokenizer.push(2) == ("é", False)


def test_nothing_follows_a_stop() -> None:
    detokenizer = Detokenizer(TokenTable([b"a|b", b"c"]), ("|",))
    assert detokenizer.push(1) == ("a", True)
    assert detokenizer.push(2) == ("", True)
    assert detokenizer.flush() == ""


def test_many_near_misses_of_the_longest_stop_strings_take_linear_time() -> None:
    stop = tuple("a" * 1023 + chr(ord("b") + index) for index in range(16))
    detokenizer = Detokenizer(TokenTable([b"a" * 8]), stop)
    text = "".join(detokenizer.push(1)[0] for _ in range(2_000))
    assert len(text + detokenizer.flush()) == 16_000
