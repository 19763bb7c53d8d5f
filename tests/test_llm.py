"""The library: over the model of hashes for its logic, over the default model for its answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import outrider
from fake_engine import FakeTokenizer, HashRunner, hash_logits, make_engine
from outrider import LLM, SamplingParams
from outrider.config import EngineConfig
from outrider.errors import (
    ConfigError,
    ContextLengthExceeded,
    EngineFailed,
    InvalidRequest,
    OutriderError,
    UnsupportedParameter,
)
from outrider.text.chat import Conversation, refuse_images
from outrider.text.image_tiles import TiledImage
from outrider.types import Message

GREEDY = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)


class HashModel(HashRunner):
    """The model of hashes with logits at every position."""

    def logits_all(self, token_ids: np.ndarray, images: Sequence[TiledImage] = ()) -> np.ndarray:
        assert not images
        return np.array([hash_logits(token_ids[: end + 1]) for end in range(len(token_ids))])


class PlainTokenizer(FakeTokenizer):
    def encode(self, text: str, param: str | None = None) -> list[int]:
        return super().encode(text)


class RoleFormat:
    """<role><content> per message; the prefix of raw prompts is token 0."""

    def encode(self, conversation: Conversation, tokenizer: PlainTokenizer) -> list[int]:
        refuse_images(conversation.messages)
        text = "".join(f"{m.role}:{m.content};" for m in conversation.messages)
        return tokenizer.encode("".join(tool.name for tool in conversation.tools) + text)

    def raw_prefix(self, tokenizer: PlainTokenizer) -> tuple[int, ...]:
        return (0,)


@pytest.fixture
def loaded() -> SimpleNamespace:
    runner = HashModel(num_blocks=128, max_model_len=200)
    return SimpleNamespace(
        engine=make_engine(runner),
        runner=runner,
        tokenizer=PlainTokenizer(),
        chat_format=RoleFormat(),
        vision=None,
        generation={"temperature": 0.0, "top_k": 5},
    )


@pytest.fixture
def llm(loaded: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Iterator[LLM]:
    configs: list[EngineConfig] = []

    def load_engine(config: EngineConfig) -> SimpleNamespace:
        configs.append(config)
        return loaded

    monkeypatch.setattr("outrider.llm.load_engine", load_engine)
    with LLM("hash", threads=3) as model:
        assert (configs[0].model, configs[0].threads) == ("hash", 3)
        yield model
        if model._loaded is not None:
            loaded.engine.check_integrity()
            stats = loaded.engine.stats()
            assert stats.num_free_blocks == stats.num_blocks


def test_the_public_names_are_these() -> None:
    assert sorted(outrider.__all__) == ["Completion", "EmbeddingModel", "LLM", "SamplingParams"]
    assert outrider.LLM is LLM
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = outrider.nothing


def test_one_prompt_gives_a_list_of_one_completion(llm: LLM) -> None:
    (by_text,) = llm.generate("abc", GREEDY)
    (by_ids,) = llm.generate([0, *llm.tokenize("abc")], GREEDY)
    (by_array,) = llm.generate(np.array([0, *llm.tokenize("abc")]), GREEDY)  # type: ignore[arg-type]
    assert by_text == by_ids == by_array
    assert by_text.prompt_token_ids == [0, *llm.tokenize("abc")]
    assert len(by_text.token_ids) == 12
    assert by_text.text == llm.detokenize(by_text.token_ids)
    assert (by_text.finish_reason, by_text.logprobs) == ("length", [])


def test_hundreds_of_prompts_come_back_in_their_order(llm: LLM) -> None:
    prompts = [[number % 90, number // 90] for number in range(300)]
    completions = llm.generate(prompts, GREEDY)
    assert [completion.prompt_token_ids for completion in completions] == prompts
    assert completions[123] == llm.generate(prompts[123], GREEDY)[0]
    assert llm.generate([], GREEDY) == []


def test_texts_and_token_ids_may_be_mixed_and_have_params_of_their_own(llm: LLM) -> None:
    params = [SamplingParams(temperature=0, max_tokens=count, ignore_eos=True) for count in (1, 5)]
    first, second = llm.generate(["abc", [5, 6]], params)
    assert (len(first.token_ids), len(second.token_ids)) == (1, 5)
    with pytest.raises(InvalidRequest, match="2 prompts but 1 params"):
        llm.generate(["abc", [5, 6]], params[:1])


def test_several_choices_and_logprobs(llm: LLM) -> None:
    params = SamplingParams(n=3, seed=1, max_tokens=6, logprobs=2, ignore_eos=True)
    (completion,) = llm.generate("abc", params)
    assert len(completion.choices) == 3
    assert len({tuple(choice.token_ids) for choice in completion.choices}) == 3
    assert completion.text == completion.choices[0].text
    for choice in completion.choices:
        assert [entry.token_id for entry in choice.logprobs] == choice.token_ids
    assert completion.logprobs == completion.choices[0].logprobs


def test_the_models_own_sampling_defaults_count_without_params(
    llm: LLM, loaded: SimpleNamespace
) -> None:
    loaded.generation = {"temperature": 0.0}
    greedy = llm.generate("abc")
    assert greedy == llm.generate("abc", SamplingParams(temperature=0))
    assert greedy == llm.generate("abc")


def test_chat_takes_dictionaries_and_messages(llm: LLM) -> None:
    completion = llm.chat([{"role": "user", "content": "hi"}], GREEDY)
    assert completion.prompt_token_ids == llm.tokenize("user:hi;")
    assert llm.chat([Message("user", "hi")], GREEDY) == completion
    with pytest.raises(InvalidRequest, match=r"messages\[1\].*'nobody'") as caught:
        llm.chat([Message("user", "hi"), {"role": "nobody", "content": ""}])
    assert caught.value.param == "messages[1].role"


def test_a_stream_gives_the_pieces_of_the_completion(llm: LLM) -> None:
    pieces = list(llm.stream("abc", GREEDY))
    assert len(pieces) > 5
    assert "".join(pieces) == llm.generate("abc", GREEDY)[0].text
    messages = [{"role": "user", "content": "hi"}]
    assert "".join(llm.stream(messages, GREEDY)) == llm.chat(messages, GREEDY).text
    assert "".join(llm.stream([0, 1], GREEDY)) == llm.generate([0, 1], GREEDY)[0].text
    with pytest.raises(InvalidRequest, match="n is 2"):
        llm.stream("abc", SamplingParams(n=2))


def test_streams_may_be_read_in_turns_and_given_up(llm: LLM) -> None:
    first, second = llm.stream("abc", GREEDY), llm.stream("xyz", GREEDY)
    given_up = llm.stream("123", GREEDY)
    llm.stream("never read", GREEDY)
    texts = [next(first), next(second)]
    next(given_up)
    whole = llm.generate("abc", GREEDY)[0].text  # steps the streams, too
    given_up.close()
    assert texts[0] + "".join(first) == whole
    assert texts[1] + "".join(second) == llm.generate("xyz", GREEDY)[0].text


def test_a_bad_prompt_among_good_ones_raises_and_leaves_nothing(llm: LLM) -> None:
    with pytest.raises(ContextLengthExceeded):
        llm.generate([[1, 2], [1] * 300], GREEDY)
    with pytest.raises(InvalidRequest, match="token id"):
        llm.generate([[1, "x"]], GREEDY)  # type: ignore[list-item]
    with pytest.raises(InvalidRequest, match="empty"):
        llm.generate([[]], GREEDY)
    assert len(llm.generate([1, 2], GREEDY)[0].token_ids) == 12


def test_a_broken_model_is_an_error_of_the_request(llm: LLM, loaded: SimpleNamespace) -> None:
    loaded.runner.change_logits = lambda logits: logits.fill(np.nan)
    with pytest.raises(EngineFailed, match="not numbers"):
        llm.generate("abc", GREEDY)
    loaded.runner.change_logits = lambda logits: None
    llm.generate("abc", GREEDY)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_are_an_error(
    llm: LLM, loaded: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    logits = np.zeros((3, 96), np.float32)
    monkeypatch.setattr(loaded.runner, "logits_all", lambda token_ids, images: logits)
    logits[1, 5:] = -np.inf
    assert llm.logits([1, 2, 3]) is logits
    logits[2] = bad
    with pytest.raises(EngineFailed, match="not numbers after token 2"):
        llm.logits([1, 2, 3])


class Index:
    """What is an integer to Python without being an int, as a tensor's element is."""

    def __init__(self, value: int) -> None:
        self._value = value

    def __index__(self) -> int:
        return self._value


class Tensor:
    """As torch's: the elements of a vector are tensors, and one of one element is an integer."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self.ndim = array.ndim

    def __iter__(self) -> Iterator[Tensor]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return (Tensor(np.asarray(item)) for item in self._array)

    def __index__(self) -> int:
        if self._array.size != 1 or self._array.dtype.kind == "f":
            raise TypeError("only integer tensors of a single element can be converted")
        return int(self._array.item())


@pytest.mark.parametrize(
    "make",
    [
        tuple,
        iter,
        np.array,
        lambda ids: Tensor(np.array(ids)),
        lambda ids: [Index(each) for each in ids],
        lambda ids: [*ids[:-1], np.int64(ids[-1])],
        lambda ids: (each for each in ids),
        lambda ids: range(ids[0], ids[-1] + 1),
    ],
)
def test_token_ids_may_be_integers_of_any_kind(llm: LLM, make: Any) -> None:
    ids = [3, 4, 5]
    assert np.array_equal(llm.logits(make(ids)), llm.logits(ids))
    (alone,) = llm.generate(ids, GREEDY)
    assert llm.generate(make(ids), GREEDY) == [alone]
    assert llm.generate([make(ids), "abc"], GREEDY)[0] == alone
    assert "".join(llm.stream(make(ids), GREEDY)) == alone.text
    assert llm.detokenize(make(ids)) == llm.detokenize(ids)


def test_rows_of_arrays_and_what_iterators_give_are_prompts(llm: LLM) -> None:
    rows = [[3], [4]]
    wanted = llm.generate(rows, GREEDY)
    assert len(wanted) == 2
    for prompts in (np.array(rows), Tensor(np.array(rows)), iter(rows), (row for row in rows)):
        assert llm.generate(prompts, iter([GREEDY, GREEDY])) == wanted
    messages = [{"role": "user", "content": "hi"}]
    assert llm.chat(iter(messages), GREEDY) == llm.chat(messages, GREEDY)
    assert llm.chat(messages, GREEDY, tools=None, tool_choice=None).choices
    assert "".join(llm.stream(iter(messages), GREEDY)) == llm.chat(messages, GREEDY).text


@pytest.mark.parametrize(
    ("use", "param"),
    [
        (lambda llm: llm.logits(None), "token_ids"),
        (lambda llm: llm.logits(5), "token_ids"),
        (lambda llm: llm.logits("abc"), "token_ids"),
        (lambda llm: llm.logits(b"abc"), "token_ids"),
        (lambda llm: llm.logits([1, 2.0]), "token_ids[1]"),
        (lambda llm: llm.logits(np.array([1.0])), "token_ids[0]"),
        (lambda llm: llm.logits([[1, 2]]), "token_ids[0]"),
        (lambda llm: llm.logits(Tensor(np.array([[1]]))), "token_ids[0]"),
        (lambda llm: llm.logits(Tensor(np.array(1))), "token_ids"),
        (lambda llm: llm.generate(5), "prompts"),
        (lambda llm: llm.generate(None), "prompts"),
        (lambda llm: llm.generate(b"abc"), "prompts"),
        (lambda llm: llm.generate({"a": 1}), "prompts"),
        (lambda llm: llm.generate(["a", None]), "prompts[1]"),
        (lambda llm: llm.generate([1, None]), "prompts[1]"),
        (lambda llm: llm.generate([[1], [2, "x"]]), "prompts[1][1]"),
        (lambda llm: llm.generate("a", 5), "params"),
        (lambda llm: llm.generate("a", {"seed": 1}), "params"),
        (lambda llm: llm.generate("a", [None]), "params[0]"),
        (lambda llm: llm.chat(None), "messages"),
        (lambda llm: llm.chat("hi"), "messages"),
        (lambda llm: llm.chat({"role": "user", "content": "a"}), "messages"),
        (lambda llm: llm.chat([5]), "messages[0]"),
        (lambda llm: llm.chat([{"role": "user", "content": "a"}], 5), "params"),
        (lambda llm: llm.chat([{"role": "user", "content": "a"}], tools=5), "tools"),
        (lambda llm: llm.chat([{"role": "user", "content": "a"}], tools={"a": 1}), "tools"),
        (lambda llm: llm.chat([{"role": "user", "content": "a"}], tools=[5]), "tools[0]"),
        (
            lambda llm: llm.chat([{"role": "user", "content": "a"}], tool_choice=5),
            "tool_choice",
        ),
        (
            lambda llm: llm.chat([{"role": "user", "content": "a"}], parallel_tool_calls="x"),
            "parallel_tool_calls",
        ),
        (lambda llm: llm.stream(None), "prompt_or_messages"),
        (lambda llm: llm.stream("a", 5), "params"),
        (lambda llm: llm.stream([None]), "messages[0]"),
        (lambda llm: llm.tokenize(None), "text"),
        (lambda llm: llm.detokenize(None), "token_ids"),
        (lambda llm: llm.detokenize(["a"]), "token_ids[0]"),
    ],
)
def test_what_is_of_the_wrong_type_is_named_by_the_argument(llm: LLM, use: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        use(llm)
    assert caught.value.param == param
    assert caught.value.message.startswith(param)
    assert "\n" not in caught.value.message


def test_logits_are_those_of_every_position(llm: LLM) -> None:
    logits = llm.logits([1, 2, 3])
    assert (logits.shape, logits.dtype) == ((3, 96), np.float32)
    (completion,) = llm.generate([1, 2, 3], SamplingParams(temperature=0, max_tokens=1))
    assert int(logits[-1].argmax()) == completion.token_ids[0]


@pytest.mark.parametrize(
    ("token_ids", "error", "text"),
    [
        ([], InvalidRequest, "empty"),
        ([96], InvalidRequest, "not in the vocabulary"),
        ([1] * 201, ContextLengthExceeded, "201 tokens"),
    ],
)
def test_logits_refuse_what_the_model_cannot_take(
    llm: LLM, token_ids: list[int], error: type[OutriderError], text: str
) -> None:
    with pytest.raises(error, match=text):
        llm.logits(token_ids)


def test_a_text_model_takes_no_images(llm: LLM) -> None:
    with pytest.raises(UnsupportedParameter, match="takes no images"):
        llm.logits([1], images=[Image.new("RGB", (3, 3))])
    llm.logits([1], images=[])


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"thread": 2}, "LLM has no setting thread; did you mean threads?"),
        ({"port": 80}, "LLM has no setting port"),
        ({"threads": -1}, "--threads is -1"),
        ({"isa": "sse"}, "'sse'"),
    ],
)
def test_unknown_and_absurd_settings_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LLM("hash", **settings)
    assert text in caught.value.message


def test_a_closed_llm_says_so(llm: LLM) -> None:
    stream = llm.stream("abc", GREEDY)
    next(stream)
    llm.close()
    llm.close()
    for use in (lambda: llm.generate("abc"), lambda: llm.tokenize("abc"), lambda: next(stream)):
        with pytest.raises(EngineFailed, match="was closed"):
            use()


@pytest.fixture(scope="module")
def real(model_path: Path) -> Iterator[LLM]:
    with LLM(str(model_path), max_model_len=512) as model:
        yield model


@pytest.mark.real_model
def test_the_default_model_answers_alone_as_in_a_batch(real: LLM) -> None:
    params = SamplingParams(temperature=0.8, top_p=0.9, seed=7, max_tokens=16, n=2, logprobs=1)
    prompts = ["The capital of France is", "def fibonacci(n):", "Once upon a time", "1, 2, 3,"]
    together = real.generate(prompts * 4, params)
    for index, prompt in enumerate(prompts):
        alone = real.generate(prompt, params)[0]
        assert [alone] * 4 == together[index::4]


@pytest.mark.real_model
def test_the_default_models_greedy_tokens_are_those_of_its_logits(real: LLM) -> None:
    (completion,) = real.generate(
        "The capital of France is", SamplingParams(temperature=0, max_tokens=24)
    )
    token_ids = completion.prompt_token_ids + completion.token_ids
    logits = real.logits(token_ids)
    best = logits[len(completion.prompt_token_ids) - 1 : -1].argmax(axis=1)
    assert best.tolist() == completion.token_ids
    assert "Paris" in completion.text


@pytest.mark.real_model
def test_the_default_model_chats_and_streams_the_same(real: LLM) -> None:
    messages = [Message("user", "Say hello.")]
    params = SamplingParams(temperature=0, max_tokens=40)
    answer = real.chat(messages, params)
    assert answer.text == "".join(real.stream(messages, params))
    assert answer.text
    assert real.detokenize(real.tokenize(answer.text)) == answer.text
