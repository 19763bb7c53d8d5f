"""Blocks under random allocation, growth, sharing and release, checked against the invariants."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fake_engine import FakeTokenizer
from outrider.engine.block_manager import BlockManager
from outrider.engine.detokenizer import Detokenizer
from outrider.engine.sampler import SamplerState
from outrider.engine.sequence import CacheRoot, Sequence, SequenceId, to_token_array
from outrider.types import SamplingParams

BLOCK_SIZE = 4


def make_sequence(*token_ids: int, root: str = "root") -> Sequence:
    params = SamplingParams(seed=0)
    return Sequence(
        id=SequenceId(0, "request", 0, 0, ("shared", root)),
        sampling=params,
        token_ids=to_token_array(token_ids),
        num_prompt_tokens=len(token_ids),
        max_num_tokens=64,
        sampler=SamplerState(params, 0, token_ids),
        detokenizer=Detokenizer(FakeTokenizer()),
        logprobs=None,
    )


def compute(blocks: BlockManager, sequence: Sequence) -> None:
    sequence.num_computed_tokens = sequence.num_tokens
    blocks.register(sequence)


def table(sequence: Sequence) -> list[int]:
    return sequence.block_table.tolist()


class Blocks(RuleBasedStateMachine):
    """Sequences over few blocks and few tokens, so that prefixes meet and blocks run out."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = BlockManager(num_blocks=12, block_size=BLOCK_SIZE)
        self.sequences: list[Sequence] = []

    @rule(
        token_ids=st.lists(st.integers(0, 1), min_size=1, max_size=24),
        root=st.sampled_from(["root", "other"]),
        num_spare_blocks=st.integers(0, 3),
    )
    def allocate(self, token_ids: list[int], root: str, num_spare_blocks: int) -> None:
        sequence = make_sequence(*token_ids, root=root)
        before = self.blocks.num_free_blocks
        if self.blocks.allocate(sequence, num_spare_blocks):
            assert self.blocks.num_free_blocks >= num_spare_blocks
            assert sequence.num_computed_tokens < sequence.num_tokens
            self.sequences.append(sequence)
        else:
            assert self.blocks.num_free_blocks == before
            assert not sequence.block_table

    @precondition(lambda self: self.sequences)
    @rule(data=st.data(), token_id=st.integers(0, 1))
    def grow(self, data: st.DataObject, token_id: int) -> None:
        sequence = data.draw(st.sampled_from(self.sequences))
        compute(self.blocks, sequence)
        if sequence.num_tokens == sequence.max_num_tokens:
            return
        sequence.token_ids.append(token_id)
        if not self.blocks.has_room(sequence) and not self.blocks.append(sequence):
            sequence.token_ids.pop()

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        sequence = data.draw(st.sampled_from(self.sequences))
        self.sequences.remove(sequence)
        self.blocks.free(sequence)
        self.blocks.free(sequence)

    @invariant()
    def every_block_has_one_owner_kind(self) -> None:
        self.blocks.check_integrity(self.sequences)

    @invariant()
    def shared_blocks_mean_equal_prefixes(self) -> None:
        owners: dict[int, tuple[CacheRoot, bytes]] = {}
        for sequence in self.sequences:
            for index, block in enumerate(table(sequence)):
                tokens = sequence.token_ids[: (index + 1) * BLOCK_SIZE].tobytes()
                prefix = (sequence.id.cache_root, tokens)
                assert owners.setdefault(block, prefix) == prefix

    def teardown(self) -> None:
        for sequence in self.sequences:
            self.blocks.free(sequence)
        assert self.blocks.num_free_blocks == self.blocks.num_blocks
        self.blocks.check_integrity([])


Blocks.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_blocks = Blocks.TestCase


def test_a_computed_prefix_is_found_again_after_it_was_freed() -> None:
    blocks = BlockManager(8, BLOCK_SIZE)
    first, second = make_sequence(*range(10)), make_sequence(*range(8), 99, 98, 97)
    assert blocks.allocate(first)
    compute(blocks, first)
    known = table(first)[:2]
    blocks.free(first)
    assert blocks.allocate(second)
    assert table(second)[:2] == known
    assert second.num_computed_tokens == 8


def test_the_last_token_is_never_taken_from_the_cache() -> None:
    blocks = BlockManager(8, BLOCK_SIZE)
    first, second = make_sequence(*range(8)), make_sequence(*range(8))
    blocks.allocate(first)
    compute(blocks, first)
    blocks.allocate(second)
    assert second.num_computed_tokens == 4


def test_what_is_allocated_but_not_computed_is_not_shared() -> None:
    blocks = BlockManager(8, BLOCK_SIZE)
    first, second = make_sequence(*range(10)), make_sequence(*range(10))
    blocks.allocate(first)
    blocks.allocate(second)
    assert not set(table(first)) & set(table(second))


def test_a_block_computed_twice_is_kept_once() -> None:
    blocks = BlockManager(8, BLOCK_SIZE)
    first, second = make_sequence(*range(10)), make_sequence(*range(10))
    for sequence in (first, second):
        blocks.allocate(sequence)
    for sequence in (first, second):
        compute(blocks, sequence)
    assert table(first)[:2] == table(second)[:2]
    assert table(first)[2] != table(second)[2]
    assert blocks.num_free_blocks == 4
    blocks.check_integrity([first, second])


def test_the_least_recently_used_tail_is_evicted_first() -> None:
    blocks = BlockManager(4, BLOCK_SIZE)
    old, new = make_sequence(*range(8)), make_sequence(*range(50, 58))
    for sequence in (old, new):
        blocks.allocate(sequence)
        compute(blocks, sequence)
        blocks.free(sequence)
    filler = make_sequence(1)
    blocks.allocate(filler)  # takes the last block of the older sequence
    again = make_sequence(*range(8), 1)
    assert not blocks.allocate(again, num_spare_blocks=2)
    assert blocks.allocate(again)
    assert again.num_computed_tokens == 4


def test_without_blocks_nothing_is_allocated() -> None:
    blocks = BlockManager(2, BLOCK_SIZE)
    assert not blocks.allocate(make_sequence(*range(9)))
    fits = make_sequence(*range(8))
    assert blocks.allocate(fits)
    assert not blocks.append(fits)
    assert blocks.num_free_blocks == 0


def test_a_leak_is_found() -> None:
    blocks = BlockManager(4, BLOCK_SIZE)
    sequence = make_sequence(1, 2)
    blocks.allocate(sequence)
    with pytest.raises(AssertionError, match="tables"):
        blocks.check_integrity([])
    blocks.check_integrity([sequence])
    sequence.block_table[0] = 3 - sequence.block_table[0]
    with pytest.raises(AssertionError):
        blocks.check_integrity([sequence])
