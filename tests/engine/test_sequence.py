"""What one sequence remembers."""

from __future__ import annotations

from outrider.engine.sequence import LogprobBuffer, to_token_array
from outrider.types import TokenLogprob


def token(text: str) -> TokenLogprob:
    return TokenLogprob(0, text.encode(), -1.0)


def test_logprobs_wait_for_the_text_of_their_token() -> None:
    buffer = LogprobBuffer()
    buffer.push(token("ab"), 2)
    assert buffer.release("") == ()
    buffer.push(token("cd"), 2)
    assert buffer.release("ab") == (token("ab"),)
    assert buffer.release("c") == (token("cd"),)
    assert buffer.release("d") == ()


def test_characters_cut_in_two_release_both_tokens() -> None:
    buffer = LogprobBuffer()
    first, second = (TokenLogprob(0, "é".encode()[i : i + 1], -1.0) for i in range(2))
    buffer.push(first, 1)
    assert buffer.release("") == ()
    buffer.push(second, 1)
    assert buffer.release("é") == (first, second)


def test_special_tokens_come_with_the_text_after_them_or_at_the_end() -> None:
    buffer = LogprobBuffer()
    buffer.push(token("<special>"), 0)
    assert buffer.release("") == ()
    buffer.push(token("a"), 1)
    assert buffer.release("a") == (token("<special>"), token("a"))
    buffer.push(token("<special>"), 0)
    assert buffer.release("", everything=True) == (token("<special>"),)


def test_a_token_array_is_a_copy_of_32_bit_ids() -> None:
    tokens = to_token_array((1, 2**31 - 1))
    tokens.append(5)
    assert tokens.tobytes() == b"\1\0\0\0\xff\xff\xff\x7f\5\0\0\0"
