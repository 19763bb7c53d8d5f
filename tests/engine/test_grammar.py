"""Grammars: exactly what they allow, nothing else whatever the model prefers, and bounded cost."""

from __future__ import annotations

import itertools
import json
import re
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fake_engine import EOS, SPECIAL, VOCAB_SIZE, FakeTokenizer, HashRunner, make_engine
from outrider.engine.engine import Engine
from outrider.engine.grammar import NUM_CACHED, Grammars, Matcher
from outrider.engine.grammar_check import MAX_SOURCE_BYTES
from outrider.engine.protocol import SequenceOutput, Submit
from outrider.engine.sampler import Sampler, SamplerState
from outrider.errors import InvalidRequest
from outrider.kernels.reference_sampling import mask_logits
from outrider.types import Grammar, SamplingParams

GREEDY = SamplingParams(temperature=0)


class WideTokenizer(FakeTokenizer):
    """Printable ASCII with the space, some longer tokens, two that stand for nothing."""

    pieces = (*map(chr, range(32, 127)), "ab", "abc", '{"', '":', '"}', "true", "é", "日")
    end = len(pieces)
    vocab_size = len(pieces) + 4  # the end, a special token, and two empty ones

    def encode(self, text: str, param: str | None = None) -> list[int]:
        return [self.pieces.index(char) for char in text]

    def token_bytes(self, token_id: int) -> bytes:
        if token_id < self.end:
            return self.pieces[token_id].encode()
        return [b"<end>", b"<special>", b"", b""][token_id - self.end]

    def is_special(self, token_id: int) -> bool:
        return self.end <= token_id < self.end + 2


WIDE = WideTokenizer()


def regex(source: str) -> Grammar:
    return Grammar("regex", source)


def schema(value: Any) -> Grammar:
    return Grammar("json_schema", json.dumps(value))


def grammars(tokenizer: Any = WIDE, eos: tuple[int, ...] = (WideTokenizer.end,)) -> Grammars:
    return Grammars(tokenizer, eos)


def mask(matcher: Matcher, row: NDArray[np.float32]) -> str:
    """Mask a row in place as the sampler does; gives why nothing may come next."""
    words = np.empty(max(matcher.num_words, -(-len(row) // 32)), np.uint32)
    failure = matcher.fill_mask(words)
    row[:] = mask_logits(row, words)
    return failure


def allowed(matcher: Matcher, size: int = WIDE.vocab_size) -> set[int]:
    row = np.zeros(size, np.float32)
    assert mask(matcher, row) == ""
    return set(np.flatnonzero(np.isfinite(row)).tolist())


def write(
    grammar: Grammar, seed: int, params: SamplingParams = GREEDY, limit: int = 400
) -> tuple[str, bool]:
    """Let a model of random preferences answer; gives the text and whether it came to an end."""
    matcher = GRAMMARS.matcher(grammar)
    state = SamplerState(params, 0, (), matcher)
    generator = np.random.default_rng(seed)
    token_ids: list[int] = []
    for position in range(limit):
        row = generator.standard_normal((1, WIDE.vocab_size)).astype(np.float32) * 5
        row[0, WIDE.end] += 2
        (sampled,) = Sampler(WIDE).sample(row, [state], [position])
        assert sampled.failure == ""
        assert sampled.token_id is not None
        state.observe(sampled.token_id)
        if sampled.token_id == WIDE.end:
            return b"".join(map(WIDE.token_bytes, token_ids)).decode(), True
        token_ids.append(sampled.token_id)
    return b"".join(map(WIDE.token_bytes, token_ids)).decode(), False


GRAMMARS = grammars()
WORDS = ["a", "ab", "abc", "abd", "b", "é", "日a", "true", "truth", "x y"]


@pytest.mark.parametrize("words", [WORDS[:4], WORDS[4:], WORDS])
def test_exactly_the_tokens_that_lead_to_a_word_are_allowed(words: list[str]) -> None:
    compiled = grammars()
    grammar = regex("|".join(words))
    texts = {word.encode() for word in words}
    seen: set[bytes] = set()
    todo = [((), b"")]
    while todo:
        path, text = todo.pop()
        matcher = compiled.matcher(grammar)
        for token_id in path:
            matcher.advance(token_id)
        wanted = {
            token_id
            for token_id in range(WIDE.end)
            if any(word.startswith(text + WIDE.token_bytes(token_id)) for word in texts)
        }
        found = allowed(matcher)
        # Where the rest is forced, only its usual spelling is allowed.
        assert found - {WIDE.end} <= wanted
        assert bool(found - {WIDE.end}) == bool(wanted)
        assert (WIDE.end in found) == (text in texts)
        if text in texts:
            seen.add(text)
        todo += [((*path, t), text + WIDE.token_bytes(t)) for t in found - {WIDE.end}]
    assert seen == texts


SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
    {"enum": ["red", "green", 3, None]},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 4},
    {
        "type": "object",
        "properties": {"s": {"type": "string", "maxLength": 5}, "t": {"const": "é"}},
        "required": ["s", "t"],
        "additionalProperties": False,
    },
]
CHECKS = [
    lambda value: type(value["n"]) is int,
    lambda value: value in ("red", "green", 3, None),
    lambda value: 1 <= len(value) <= 4 and all(type(item) is bool for item in value),
    lambda value: value.keys() == {"s", "t"} and len(value["s"]) <= 5 and value["t"] == "é",
]


@pytest.mark.parametrize("number", range(len(SCHEMAS)))
@given(
    seed=st.integers(0, 10**6),
    params=st.sampled_from(
        [
            GREEDY,
            SamplingParams(seed=3, temperature=2.0),
            SamplingParams(seed=3, top_k=1, logprobs=2),
            SamplingParams(seed=3, top_p=0.5, min_p=0.2, repetition_penalty=1.5),
            SamplingParams(seed=3, logit_bias={0: 100.0, 5: -100.0, WIDE.end: -100.0}),
            SamplingParams(seed=3, frequency_penalty=2.0, presence_penalty=2.0, top_k=5),
        ]
    ),
)
@settings(max_examples=25, deadline=None)
def test_a_finished_answer_matches_its_schema(
    number: int, seed: int, params: SamplingParams
) -> None:
    text, is_finished = write(schema(SCHEMAS[number]), seed, params)
    if is_finished:
        assert CHECKS[number](json.loads(text))


def test_lark_and_regular_expressions_are_enforced() -> None:
    lark = Grammar("lark", 'start: "<" word ("," word)* ">"\nword: /[a-z]{1,3}/')
    pattern = regex(r"(yes|no) [0-9]{2}")
    for seed in range(20):
        text, is_finished = write(lark, seed)
        assert not is_finished or re.fullmatch(r"<[a-z]{1,3}(,[a-z]{1,3})*>", text)
        text, is_finished = write(pattern, seed)
        assert is_finished
        assert re.fullmatch(r"(yes|no) [0-9]{2}", text)


class SpacedTokenizer(WideTokenizer):
    """Puts a space before every text, as vocabularies of SentencePiece do."""

    def encode(self, text: str, param: str | None = None) -> list[int]:
        return [self.pieces.index(" "), *super().encode(text)]


def test_a_tokenizer_that_adds_a_space_changes_nothing() -> None:
    matcher = grammars(SpacedTokenizer()).matcher(Grammar("lark", 'start: "{" /[0-9]/ "}"'))
    text = ""
    while (found := allowed(matcher)) != {WIDE.end}:
        token_id = min(found)
        text += WIDE.token_bytes(token_id).decode()
        matcher.advance(token_id)
    assert text == "{0}"


def test_at_the_end_only_end_tokens_are_allowed_and_all_of_them() -> None:
    compiled = grammars(eos=(WIDE.end, WIDE.end + 1))
    matcher = compiled.matcher(regex("a"))
    assert allowed(matcher) == {WIDE.pieces.index("a")}
    matcher.advance(WIDE.pieces.index("a"))
    assert allowed(matcher) == {WIDE.end, WIDE.end + 1}


@pytest.mark.parametrize("extra", [0, 1, 7, 1000])
def test_ids_beyond_the_tokenizers_are_never_allowed(extra: int) -> None:
    matcher = grammars().matcher(regex("a*"))
    assert max(allowed(matcher, WIDE.vocab_size + extra)) == WIDE.end


def test_a_row_shorter_than_the_vocabulary_is_masked_as_far_as_it_goes() -> None:
    size = WIDE.pieces.index("b")
    assert allowed(grammars().matcher(regex("[ab]")), size) == {WIDE.pieces.index("a")}


def test_matchers_of_one_grammar_know_nothing_of_each_other() -> None:
    compiled = grammars()
    first, second = compiled.matcher(regex("ab")), compiled.matcher(regex("ab"))
    first.advance(WIDE.pieces.index("a"))
    third = compiled.matcher(regex("ab"))
    assert allowed(second) == allowed(third) != allowed(first)


def test_a_token_that_does_not_fit_fails_the_answer_and_never_frees_it() -> None:
    matcher = grammars().matcher(regex("ab"))
    matcher.advance(WIDE.pieces.index("z"))
    for _ in range(3):
        row = np.zeros(WIDE.vocab_size, np.float32)
        failure = mask(matcher, row)
        assert failure and "\n" not in failure
        state = SamplerState(GREEDY, 0, (), matcher)
        (sampled,) = Sampler(WIDE).sample(np.zeros_like(row[None]), [state], [0])
        assert (sampled.token_id, sampled.failure) == (None, failure)
        matcher.advance(WIDE.pieces.index("a"))


def test_logprobs_are_those_of_the_model_without_the_grammar() -> None:
    row = np.random.default_rng(1).standard_normal(WIDE.vocab_size).astype(np.float32)
    expected = row - np.log(np.exp(row.astype(np.float64)).sum())
    state = SamplerState(SamplingParams(logprobs=3), 0, (), GRAMMARS.matcher(regex("q")))
    (sampled,) = Sampler(WIDE).sample(row[None].copy(), [state], [0])
    assert sampled.token_id == WIDE.pieces.index("q")
    assert sampled.logprob is not None
    assert sampled.logprob.logprob == pytest.approx(expected[sampled.token_id], abs=1e-5)
    assert [entry.token_id for entry in sampled.logprob.top] == np.argsort(-row)[:3].tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_broken_row_is_no_failure_of_the_grammar(value: float) -> None:
    row = np.zeros((1, WIDE.vocab_size), np.float32)
    row[0, :] = value
    state = SamplerState(GREEDY, 0, (), GRAMMARS.matcher(regex("a")))
    (sampled,) = Sampler(WIDE).sample(row, [state], [0])
    assert (sampled.token_id, sampled.failure) == (None, "")


def test_other_rows_of_a_batch_are_sampled_as_without_grammars() -> None:
    logits = np.random.default_rng(5).standard_normal((3, WIDE.vocab_size)).astype(np.float32)

    def sample(has_grammar: bool) -> list[int | None]:
        matcher = GRAMMARS.matcher(regex("~~")) if has_grammar else None
        params = [GREEDY, GREEDY, SamplingParams(seed=4)]
        matchers = [None, matcher, None]
        states = [SamplerState(p, 0, (), m) for p, m in zip(params, matchers, strict=True)]
        return [s.token_id for s in Sampler(WIDE).sample(logits.copy(), states, [0, 0, 0])]

    with_one, without = sample(True), sample(False)
    assert with_one[1] == WIDE.pieces.index("~")
    assert (with_one[0], with_one[2]) == (without[0], without[2])


# What is refused.

REFUSED: list[tuple[Grammar, str]] = [
    (Grammar("lark", "start: /(/"), "invalid regex"),
    (Grammar("lark", "no grammar at all"), "Expected"),
    (Grammar("lark", "start: missing"), "missing"),
    (Grammar("json_schema", "{"), "enforced"),
    (Grammar("json_schema", '"\ud800"'), "enforced"),
    (regex("a(?=b)"), "look-around"),
    (schema({"type": "objekt"}), "objekt"),
    (schema(False), "Unsatisfiable"),
    (schema({"$ref": "http://example.com/schema"}), "example.com"),
    (schema({"dependentSchemas": {"a": {}}}), "dependentSchemas"),
    (schema({"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}}), "enforced"),
    (schema({"enum": ["x" * MAX_SOURCE_BYTES]}), "bytes"),
]


@pytest.mark.parametrize(("grammar", "text"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_enforced_is_refused_in_one_line_and_soon(
    grammar: Grammar, text: str
) -> None:
    begin = time.perf_counter()
    with pytest.raises(InvalidRequest) as caught:
        GRAMMARS.matcher(grammar)
    assert time.perf_counter() - begin < 2
    assert text.lower() in caught.value.message.lower()
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 500
    assert caught.value.param == "tools"


def test_many_optional_properties_are_no_obstacle() -> None:
    matcher = GRAMMARS.matcher(
        schema({"type": "object", "properties": {f"p{i}": {} for i in range(2000)}})
    )
    matcher.advance(WIDE.pieces.index("{"))
    matcher.advance(WIDE.pieces.index('"'))
    assert WIDE.pieces.index("p") in allowed(matcher)


def test_a_grammar_that_outgrows_its_limits_fails_its_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("outrider.engine.grammar_check.MAX_LEXER_STATES", 300)
    compiled = grammars()
    matcher = compiled.matcher(regex("(.*a.{200})"))
    generator = np.random.default_rng(0)
    for _ in range(3000):
        row = np.zeros(WIDE.vocab_size, np.float32)
        begin = time.perf_counter()
        failure = mask(matcher, row)
        assert time.perf_counter() - begin < 1
        if failure:
            assert "states" in failure or "expressions" in failure
            return
        matcher.advance(int(generator.choice(np.flatnonzero(np.isfinite(row)))))
    pytest.fail("the lexer grew without a limit")


def test_models_without_a_tokenizer_or_an_end_take_no_grammar() -> None:
    bare = grammars(tokenizer=None)
    assert not bare.prepare()
    with pytest.raises(InvalidRequest, match="no tokenizer"):
        bare.matcher(regex("a"))
    for eos in ((), (WIDE.vocab_size, 10**6)):
        endless = grammars(eos=eos)
        assert not endless.prepare()
        with pytest.raises(InvalidRequest, match="no end token"):
            endless.matcher(regex("a"))


def test_the_vocabulary_is_read_once_and_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Counting(WideTokenizer):
        num_read = num_of_part = 0

        def token_bytes(self, token_id: int) -> bytes:
            self.num_read += 1
            self.num_of_part += 1
            return super().token_bytes(token_id)

    monkeypatch.setattr("outrider.engine.grammar.PART_TOKENS", 40)
    tokenizer = Counting()
    prepared = grammars(tokenizer)
    assert prepared.prepare()
    while prepared.prepare():
        num_before, tokenizer.num_of_part = tokenizer.num_of_part, 0
        assert num_before <= 40
    assert tokenizer.num_read == tokenizer.vocab_size
    for source in ("a", "b"):
        prepared.matcher(regex(source))
    assert not prepared.prepare()
    assert tokenizer.num_read == tokenizer.vocab_size


def test_a_grammar_that_comes_early_finishes_the_vocabulary() -> None:
    begun = grammars()
    assert begun.prepare()
    matcher, same = begun.matcher(regex("a|é")), grammars().matcher(regex("a|é"))
    assert allowed(matcher) == allowed(same)
    assert not begun.prepare()


def test_an_answer_with_a_grammar_has_to_end_at_its_end() -> None:
    with pytest.raises(InvalidRequest) as caught:
        SamplerState(SamplingParams(ignore_eos=True), 0, (), GRAMMARS.matcher(regex("a")))
    assert caught.value.param == "ignore_eos"


def test_the_last_grammars_are_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = grammars()
    count = itertools.count()
    compile_one = compiled._compile

    def counting(grammar: Grammar, tokenizer: Any) -> Any:
        next(count)
        return compile_one(grammar, tokenizer)

    monkeypatch.setattr(compiled, "_compile", counting)
    for _ in range(3):
        for number in range(NUM_CACHED):
            compiled.matcher(regex(f"a{number}"))
    assert next(count) == NUM_CACHED
    compiled.matcher(regex("one more"))
    compiled.matcher(regex("a1"))  # still there
    compiled.matcher(regex("a0"))  # was the oldest
    assert next(count) == NUM_CACHED + 1 + 2


# In the engine.


def run(engine: Engine, *requests: Submit) -> dict[tuple[str, int], list[SequenceOutput]]:
    outputs: dict[tuple[str, int], list[SequenceOutput]] = {}
    for request in requests:
        engine.submit(request)
    while engine.has_work:
        for output in engine.step():
            outputs.setdefault((output.request_id, output.index), []).append(output)
        engine.check_integrity()
    return outputs


def text_of(outputs: list[SequenceOutput]) -> str:
    return "".join(output.text for output in outputs)


PATTERN = "x[a-f]{30}(!|[?]{3})"
PROMPT = tuple(range(20))


def constrained(name: str, **sampling: Any) -> Submit:
    params = SamplingParams(**{"seed": 1, "max_tokens": 60, **sampling})
    return Submit(name, (PROMPT,), params, grammar=regex(PATTERN))


def test_the_engine_ends_an_answer_where_its_grammar_ends() -> None:
    outputs = run(make_engine(), constrained("a", n=3))
    for index in range(3):
        parts = outputs["a", index]
        assert re.fullmatch(PATTERN, text_of(parts))
        assert parts[-1].finish_reason == "stop"
        assert parts[-1].token_ids == (EOS,)
        assert all(SPECIAL not in part.token_ids for part in parts)
    assert len({text_of(parts) for parts in outputs.values()}) == 3


def test_a_limit_of_tokens_cuts_an_answer_that_is_not_complete() -> None:
    (parts,) = run(make_engine(), constrained("a", max_tokens=5)).values()
    assert parts[-1].finish_reason == "length"
    assert len(text_of(parts)) == 5


def test_a_preempted_answer_goes_on_in_its_grammar() -> None:
    engine = make_engine(HashRunner(num_blocks=10))
    requests = [constrained(f"r{number}", seed=number) for number in range(6)]
    outputs = run(engine, *requests)
    assert engine.stats().num_preemptions > 0
    for number, request in enumerate(requests):
        (alone,) = run(make_engine(), request).values()
        assert text_of(outputs[f"r{number}", 0]) == text_of(alone)
        assert re.fullmatch(PATTERN, text_of(alone))


def test_a_bad_grammar_is_refused_when_it_is_submitted_and_leaves_nothing() -> None:
    engine = make_engine()
    for grammar in (regex("("), Grammar("lark", "start: missing")):
        with pytest.raises(InvalidRequest):
            engine.submit(Submit("a", (PROMPT, PROMPT), GREEDY, grammar=grammar))
    with pytest.raises(InvalidRequest) as caught:
        engine.submit(constrained("a", ignore_eos=True))
    assert caught.value.param == "ignore_eos"
    assert not engine.has_work
    assert engine.stats().num_free_blocks == engine.stats().num_blocks


def test_a_grammar_without_a_way_on_fails_its_request_and_no_other() -> None:
    engine = make_engine()
    # No token of the fake vocabulary has a space in it.
    stuck = Submit("stuck", (PROMPT,), GREEDY, grammar=regex("a b"))
    other = Submit("other", (PROMPT,), SamplingParams(temperature=0, max_tokens=8))
    outputs = run(engine, stuck, other)
    assert len(outputs["other", 0]) == 8
    (rejected,) = engine.take_failed()
    assert (rejected.request_id, rejected.code) == ("stuck", InvalidRequest.code)
    assert rejected.param == "tools"
    assert "grammar" in rejected.message


def test_masks_cost_little_beside_a_step() -> None:
    matcher = grammars().matcher(schema(SCHEMAS[3]))
    rows: NDArray[np.float32] = np.zeros((100, VOCAB_SIZE + 20), np.float32)
    begin = time.perf_counter()
    for row in rows:
        mask(matcher, row)
    assert (time.perf_counter() - begin) / len(rows) < 0.005
