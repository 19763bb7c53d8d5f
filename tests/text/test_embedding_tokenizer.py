"""Texts and token ids for embedding: their ends, their limits and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from outrider.checkpoints.wordpiece import wordpiece_json
from outrider.errors import CheckpointError, InputTooLong, InvalidRequest
from outrider.text.embedding_tokenizer import MAX_CHARS_PER_TOKEN, EmbeddingTokenizer
from tiny_bert import CLS, SEP, WORDS

MAX_TOKENS = 8
UNKNOWN = WORDS.index("[UNK]")


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("words") / "vocab.txt"
    file.write_text("\r\n".join(WORDS), "utf-8")
    return json.dumps(wordpiece_json(file, {}))


@pytest.fixture(scope="module")
def tokenizer(vocabulary: str) -> EmbeddingTokenizer:
    return EmbeddingTokenizer(vocabulary, MAX_TOKENS, len(WORDS))


def ids(*words: str) -> list[int]:
    return [CLS, *map(WORDS.index, words), SEP]


def test_text_gets_its_ends(tokenizer: EmbeddingTokenizer) -> None:
    assert tokenizer.encode(["The tide.", "Moon"]) == [ids("the", "tide", "."), ids("moon")]


def test_names_of_control_tokens_stay_text(tokenizer: EmbeddingTokenizer) -> None:
    assert tokenizer.encode(["[SEP]"]) == [ids("[", "s", "##e", "##p", "]")]


def test_token_ids_get_their_ends_unless_they_have_them(tokenizer: EmbeddingTokenizer) -> None:
    inner = ids("the", "moon")[1:-1]
    assert tokenizer.encode([inner, ids("the", "moon"), [CLS]]) == [
        ids("the", "moon"),
        ids("the", "moon"),
        [CLS, CLS, SEP],
    ]


def test_texts_and_ids_keep_their_order_over_many(tokenizer: EmbeddingTokenizer) -> None:
    texts = [f"{i}" if i % 3 else [5 + i % 20] for i in range(200)]
    encoded = tokenizer.encode(texts)
    assert [one[1:-1] for one in encoded] == [tokenizer.encode([text])[0][1:-1] for text in texts]


def test_long_word_is_one_unknown_token(tokenizer: EmbeddingTokenizer) -> None:
    assert tokenizer.encode(["x" * 101]) == [[CLS, UNKNOWN, SEP]]


@pytest.mark.parametrize(
    ("texts", "message", "param"),
    [
        ([""], "the text is empty", "input"),
        (["moon", " \n"], "the text is empty", "input[1]"),
        ([[]], "the text is empty", "input"),
        (["moon", [CLS, SEP]], "the text is empty", "input[1]"),
        (["a b", "\ud800"], "lone surrogate", "input[1]"),
        ([[5], [len(WORDS)]], f"token id {len(WORDS)} is not in the vocabulary", "input[1]"),
        ([[-1]], "token id -1 is not in the vocabulary", "input"),
        (
            ["a" * (MAX_TOKENS * MAX_CHARS_PER_TOKEN + 1)],
            "1,601 characters; at most 1,600",
            "input",
        ),
    ],
)
def test_text_that_cannot_be_embedded_names_its_place(
    tokenizer: EmbeddingTokenizer, texts: list[str | list[int]], message: str, param: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        tokenizer.encode(texts)
    assert caught.value.param == param


@pytest.mark.parametrize("text", ["a b c d e f g", [5] * 7])
def test_long_text_is_refused_and_never_cut(
    tokenizer: EmbeddingTokenizer, text: str | list[int]
) -> None:
    assert len(tokenizer.encode([text[:11] if isinstance(text, str) else text[:6]])[0]) == 8
    with pytest.raises(InputTooLong, match=r"9 tokens, .* takes 8; cut it") as caught:
        tokenizer.encode(["moon", text], "text")
    assert caught.value.param == "text[1]"
    assert (caught.value.num_prompt_tokens, caught.value.max_model_len) == (9, 8)


def test_tokenizer_that_does_not_fit_is_refused(vocabulary: str) -> None:
    with pytest.raises(CheckpointError, match="doesn't fit an embedding model"):
        EmbeddingTokenizer(vocabulary, MAX_TOKENS, len(WORDS) - 1)
    with pytest.raises(CheckpointError, match="doesn't fit an embedding model"):
        bare = json.loads(vocabulary) | {"post_processor": None}
        EmbeddingTokenizer(json.dumps(bare), MAX_TOKENS, len(WORDS))
    with pytest.raises(CheckpointError, match="can't be read"):
        EmbeddingTokenizer("{}", MAX_TOKENS, len(WORDS))


@pytest.mark.parametrize("missing", ["[CLS]", "[SEP]", "[UNK]"])
def test_vocabulary_without_a_needed_token_is_refused(tmp_path: Path, missing: str) -> None:
    file = tmp_path / "vocab.txt"
    file.write_text("\n".join(word for word in WORDS if word != missing), "utf-8")
    with pytest.raises(CheckpointError, match=rf"has no \[{missing[1:-1]}\]"):
        wordpiece_json(file, {})
