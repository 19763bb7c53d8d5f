"""Token ids against Meta's own tokenizer (llama-models, tiktoken), from every file format."""

from __future__ import annotations

import json

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_models.llama4.tokenizer import Tokenizer as MetaTokenizer

from golden.llama4_tokens import as_published, read_golden, token_line, tokenizer_model
from golden.tokenizer_texts import CONTROL_NAMES, MAX_PIECE_CHARS, SPACES, texts
from outrider.checkpoints.meta_tokenizer import meta_tokenizer_json
from outrider.checkpoints.tokenizer_json import byte_alphabet, compact
from outrider.text.tokenizer import Tokenizer

pytestmark = pytest.mark.parity

CHARS = st.characters(exclude_categories=["Cs"])
# Whole words, spaces and names of control tokens among any characters.
PIECES = st.one_of(
    st.text(CHARS, max_size=20),
    st.sampled_from([*SPACES, *CONTROL_NAMES, "'s", "'LL", "it", "ÉTÉ", "नमस्ते", "สวัสดี", "123"]),
)
MIXED = st.lists(PIECES, max_size=20).map("".join)


@pytest.fixture(scope="module")
def reference() -> MetaTokenizer:
    return MetaTokenizer(tokenizer_model())


@pytest.fixture(scope="module")
def meta_json() -> str:
    return meta_tokenizer_json(tokenizer_model())


@pytest.fixture(scope="module")
def tokenizer(meta_json: str) -> Tokenizer:
    return Tokenizer(meta_json)


@pytest.fixture(scope="module")
def published_json(meta_json: str) -> str:
    return json.dumps(as_published(meta_json), indent=2)


def meta_ids(reference: MetaTokenizer, text: str) -> list[int]:
    ids: list[int] = reference.encode(text, bos=False, eos=False)
    return ids


def test_goldens_are_what_metas_tokenizer_gives(reference: MetaTokenizer) -> None:
    _, lines = read_golden()
    assert lines == [token_line(meta_ids(reference, text)) for text in texts()]


def test_ids_from_a_published_tokenizer_json_are_metas(
    reference: MetaTokenizer, published_json: str
) -> None:
    tokenizer = Tokenizer(published_json)
    for text in texts():
        assert tokenizer.encode(text) == meta_ids(reference, text), ascii(text[:80])


def test_published_json_is_packed_with_one_merge_per_token(
    published_json: str, meta_json: str
) -> None:
    shorter = compact(published_json, "folder")
    assert json.loads(shorter) == json.loads(meta_json)
    assert len(shorter.encode()) < 8_000_000


def test_control_tokens_have_metas_ids(reference: MetaTokenizer, tokenizer: Tokenizer) -> None:
    names = reference.special_tokens
    assert {name: tokenizer.special(name) for name in names} == names
    assert (tokenizer.vocab_size, tokenizer.prefix_ids) == (reference.n_words, (reference.bos_id,))


@settings(max_examples=3000, deadline=None)
@given(text=MIXED)
def test_ids_of_any_text_are_metas(
    reference: MetaTokenizer, tokenizer: Tokenizer, text: str
) -> None:
    token_ids = tokenizer.encode(text)
    assert token_ids == meta_ids(reference, text)
    assert tokenizer.decode(token_ids) == text


@pytest.mark.parametrize("frame", ["a{}b ", " {}", "{}", "1{}'s\n"])
def test_ids_of_every_code_point_are_metas(
    reference: MetaTokenizer, tokenizer: Tokenizer, frame: str
) -> None:
    points = [chr(point) for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    for begin in range(0, len(points), 256):
        text = "".join(frame.format(char) for char in points[begin : begin + 256])
        assert tokenizer.encode(text) == meta_ids(reference, text), hex(ord(points[begin]))


@settings(max_examples=15, deadline=None)
@given(
    words=st.lists(st.tuples(MIXED, st.integers(1, 60_000)), min_size=1, max_size=4),
    shift=st.integers(0, 30),
)
def test_long_texts_are_cut_where_metas_are(
    reference: MetaTokenizer, tokenizer: Tokenizer, words: list[tuple[str, int]], shift: int
) -> None:
    text = "x " * shift + "".join(word * (count // max(len(word), 1)) for word, count in words)
    whole = text + "The 12 keepers' étés\n " * (MAX_PIECE_CHARS // 20) + text
    assert tokenizer.encode(whole) == meta_ids(reference, whole)


def test_order_of_merges_that_make_one_token_never_shows(
    reference: MetaTokenizer, tokenizer: Tokenizer, meta_json: str, published_json: str
) -> None:
    # A published file lists several merges for one token. Only where two of them overlap could
    # their order matter: in texts x + y + z with x + y and y + z the same token.
    vocab: dict[str, int] = json.loads(meta_json)["model"]["vocab"]
    byte_of = {char: byte for byte, char in enumerate(byte_alphabet())}
    cases = []
    for token in vocab:
        for size in range(1, len(token)):
            outer, inner = token[: len(token) - size], token[:size]
            if token.endswith(inner) and outer in vocab and token[size:] in vocab:
                whole = bytes(byte_of[char] for char in outer + inner + token[size:])
                cases.append(whole.decode("utf-8", "ignore"))
    assert len(cases) > 6000
    published = tokenizers.Tokenizer.from_str(published_json)
    for text in cases:
        expected = meta_ids(reference, text)
        assert tokenizer.encode(text) == expected
        assert published.encode(text, add_special_tokens=False).ids == expected
