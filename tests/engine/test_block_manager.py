"""Blocks under random allocation, growth, sharing and release, checked against the invariants."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.make_sequences import make_sequence
from outrider.engine.block_manager import FREED, BlockManager, KvLayout
from outrider.engine.sequence import CacheRoot, Sequence

BLOCK_SIZE = 4
STEP = 6  # tokens of a step, at most


def full_only(num_blocks: int) -> BlockManager:
    return BlockManager(KvLayout(BLOCK_SIZE, num_blocks))


def with_chunks(num_chunk_blocks: int, chunk_size: int, num_full_blocks: int = 100) -> BlockManager:
    return BlockManager(KvLayout(BLOCK_SIZE, num_full_blocks, num_chunk_blocks, chunk_size, STEP))


def compute(blocks: BlockManager, sequence: Sequence, num_tokens: int | None = None) -> None:
    """Compute up to `num_tokens` of a sequence, in steps as the scheduler would."""
    end = sequence.num_tokens if num_tokens is None else num_tokens
    while sequence.num_computed_tokens < end:
        count = min(STEP, end - sequence.num_computed_tokens)
        assert blocks.make_room(sequence)
        assert blocks.extend(sequence, count) == count
        blocks.advance(sequence, count)


def table(sequence: Sequence) -> list[int]:
    return sequence.block_table.tolist()


def chunk_table(sequence: Sequence) -> list[int]:
    return sequence.chunk_table.tolist()


class Blocks(RuleBasedStateMachine):
    """Sequences over few blocks and few tokens, so that prefixes meet and blocks run out."""

    layout = KvLayout(BLOCK_SIZE, 12)

    def __init__(self) -> None:
        super().__init__()
        self.blocks = BlockManager(self.layout)
        self.sequences: list[Sequence] = []

    @rule(
        token_ids=st.lists(st.integers(0, 1), min_size=1, max_size=24),
        root=st.sampled_from(["root", "other"]),
        num_spare_blocks=st.integers(0, 3),
    )
    def allocate(self, token_ids: list[int], root: str, num_spare_blocks: int) -> None:
        sequence = make_sequence(token_ids, root=root)
        before = self.blocks.num_free_blocks
        known = self.blocks.num_known_tokens(sequence)
        if self.blocks.allocate(sequence, num_spare_blocks):
            assert self.blocks.num_free_blocks >= num_spare_blocks
            assert sequence.num_computed_tokens == known < sequence.num_tokens
            self.sequences.append(sequence)
        else:
            assert self.blocks.num_free_blocks == before
            assert not sequence.block_table

    @precondition(lambda self: self.sequences)
    @rule(data=st.data(), token_id=st.integers(0, 1), count=st.integers(1, STEP))
    def step(self, data: st.DataObject, token_id: int, count: int) -> None:
        sequence = data.draw(st.sampled_from(self.sequences))
        if sequence.num_computed_tokens == sequence.num_tokens:
            sequence.token_ids.append(token_id)
        if not self.blocks.make_room(sequence):
            self.sequences.remove(sequence)
            self.blocks.free(sequence)
            return
        count = min(count, sequence.num_tokens - sequence.num_computed_tokens)
        count = self.blocks.extend(sequence, count)
        assert count >= 1
        self.blocks.advance(sequence, count)

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
        for tables in ("block_table", "chunk_table"):
            owners: dict[int, tuple[CacheRoot, bytes]] = {}
            for sequence in self.sequences:
                for index, block in enumerate(getattr(sequence, tables)):
                    tokens = sequence.token_ids[: (index + 1) * BLOCK_SIZE].tobytes()
                    prefix = (sequence.id.cache_root, tokens)
                    assert block == FREED or owners.setdefault(block, prefix) == prefix

    def teardown(self) -> None:
        for sequence in self.sequences:
            self.blocks.free(sequence)
        assert self.blocks.num_free_blocks == self.blocks.num_blocks
        self.blocks.check_integrity([])


class AlignedChunks(Blocks):
    layout = KvLayout(BLOCK_SIZE, 14, 8, 8, STEP)


class CutChunks(Blocks):
    layout = KvLayout(BLOCK_SIZE, 14, 7, 6, STEP)


class OddChunksOnly(Blocks):
    layout = KvLayout(BLOCK_SIZE, 14, 7, 3, STEP, has_full_layers=False)


Blocks.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
test_blocks = Blocks.TestCase
test_blocks_of_chunks_that_end_with_a_block = AlignedChunks.TestCase
test_blocks_of_chunks_that_end_inside_a_block = CutChunks.TestCase
test_blocks_of_a_model_with_chunked_layers_only = OddChunksOnly.TestCase


def test_a_computed_prefix_is_found_again_after_it_was_freed() -> None:
    blocks = full_only(8)
    first, second = make_sequence(range(10)), make_sequence([*range(8), 99, 98, 97])
    assert blocks.allocate(first)
    compute(blocks, first)
    known = table(first)[:2]
    blocks.free(first)
    assert blocks.allocate(second)
    assert table(second)[:2] == known
    assert second.num_computed_tokens == 8


def test_the_last_token_is_never_taken_from_the_cache() -> None:
    blocks = full_only(8)
    first, second = make_sequence(range(8)), make_sequence(range(8))
    blocks.allocate(first)
    compute(blocks, first)
    blocks.allocate(second)
    assert second.num_computed_tokens == 4


def test_what_is_allocated_but_not_computed_is_not_shared() -> None:
    blocks = full_only(8)
    first, second = make_sequence(range(10)), make_sequence(range(10))
    blocks.allocate(first)
    blocks.allocate(second)
    assert not set(table(first)) & set(table(second))


def test_a_block_computed_twice_is_kept_once() -> None:
    blocks = with_chunks(8, chunk_size=12, num_full_blocks=8)
    first, second = make_sequence(range(10)), make_sequence(range(10))
    for sequence in (first, second):
        blocks.allocate(sequence)
    for sequence in (first, second):
        compute(blocks, sequence)
    for tables in (table, chunk_table):
        assert tables(first)[:2] == tables(second)[:2]
        assert tables(first)[2] != tables(second)[2]
    assert blocks.num_free_blocks == 2 * 4
    blocks.check_integrity([first, second])


def test_the_least_recently_used_tail_is_evicted_first() -> None:
    blocks = full_only(4)
    old, new = make_sequence(range(8)), make_sequence(range(50, 58))
    for sequence in (old, new):
        blocks.allocate(sequence)
        compute(blocks, sequence)
        blocks.free(sequence)
    filler = make_sequence([1])
    blocks.allocate(filler)  # takes the last block of the older sequence
    again = make_sequence([*range(8), 1])
    assert not blocks.allocate(again, num_spare_blocks=2)
    assert blocks.allocate(again)
    assert again.num_computed_tokens == 4


def test_without_blocks_nothing_is_allocated() -> None:
    blocks = full_only(2)
    assert not blocks.allocate(make_sequence(range(9)))
    fits = make_sequence(range(8))
    assert blocks.allocate(fits)
    compute(blocks, fits)
    fits.token_ids.append(1)
    assert not blocks.make_room(fits)
    assert blocks.num_free_blocks == 0


@pytest.mark.parametrize(
    ("chunk_size", "num_tokens", "held"),
    [
        # (first block, end): the chunk of the next token, cut blocks included
        (8, 7, (0, 2)),
        (8, 8, (2, 2)),
        (8, 9, (2, 3)),
        (8, 40, (10, 10)),
        (6, 6, (1, 2)),
        (6, 11, (1, 3)),
        (6, 12, (3, 3)),
        (6, 19, (4, 5)),
        (3, 9, (2, 3)),
        (1, 5, (1, 2)),
        (1, 8, (2, 2)),
    ],
)
def test_chunked_layers_hold_exactly_the_blocks_of_the_next_tokens_chunk(
    chunk_size: int, num_tokens: int, held: tuple[int, int]
) -> None:
    blocks = with_chunks(50, chunk_size)
    sequence = make_sequence(range(60))
    assert blocks.allocate(sequence)
    assert chunk_table(sequence) == []  # nothing before it is needed
    compute(blocks, sequence, num_tokens)
    first, end = held
    found = chunk_table(sequence)
    assert found[:first] == [FREED] * first
    assert len(found) == end
    assert FREED not in found[first:]
    blocks.check_integrity([sequence])


def test_a_long_sequence_runs_in_a_pool_of_a_chunk_and_a_step() -> None:
    layout = KvLayout(BLOCK_SIZE, 1000, 0, 9, STEP)
    blocks = with_chunks(layout.widest_window, chunk_size=9, num_full_blocks=1000)
    sequence = make_sequence(range(3000))
    assert blocks.allocate(sequence)
    compute(blocks, sequence)
    blocks.check_integrity([sequence])
    blocks.free(sequence)
    assert blocks.num_free_blocks == blocks.num_blocks


def test_a_chunk_border_is_a_checkpoint_that_needs_no_chunked_blocks() -> None:
    blocks = with_chunks(8, chunk_size=8)
    first = make_sequence(range(40))
    blocks.allocate(first)
    compute(blocks, first)
    blocks.free(first)
    # Another prompt takes every chunked block.
    other = make_sequence(range(100, 131))
    blocks.allocate(other)
    compute(blocks, other)
    blocks.free(other)
    for num_tokens, num_known in ((8, 0), (9, 8), (15, 8), (17, 16), (24, 16), (39, 32), (41, 40)):
        again = make_sequence([*range(40), 1][:num_tokens])
        assert blocks.num_known_tokens(again) == num_known, num_tokens
        assert blocks.allocate(again)
        assert again.num_computed_tokens == num_known
        assert chunk_table(again) == [FREED] * (num_known // BLOCK_SIZE)
        blocks.free(again)


def test_inside_a_chunk_the_blocks_from_its_start_are_needed() -> None:
    blocks = with_chunks(8, chunk_size=16)
    first = make_sequence(range(28))
    blocks.allocate(first)
    compute(blocks, first)  # 16 .. 27 are in the last chunk
    kept = chunk_table(first)[4:]
    blocks.free(first)
    again = make_sequence(range(28))
    assert blocks.allocate(again)
    assert again.num_computed_tokens == 24
    assert chunk_table(again) == [FREED] * 4 + kept[:2]
    blocks.check_integrity([again])


def test_a_cut_block_is_needed_by_the_chunk_that_begins_in_it() -> None:
    blocks = with_chunks(6, chunk_size=6)
    first = make_sequence(range(12))
    blocks.allocate(first)
    compute(blocks, first)
    blocks.free(first)
    again = make_sequence(range(12))
    assert blocks.allocate(again)
    assert again.num_computed_tokens == 8
    assert chunk_table(again)[0] == FREED
    assert FREED not in chunk_table(again)[1:]


def test_without_its_prefix_a_chunked_block_is_forgotten() -> None:
    blocks = with_chunks(20, chunk_size=100, num_full_blocks=4)
    first = make_sequence(range(16))
    blocks.allocate(first)
    compute(blocks, first)
    blocks.free(first)
    other = make_sequence(range(50, 66))
    blocks.allocate(other)
    compute(blocks, other)
    blocks.check_integrity([other])
    blocks.free(other)
    assert blocks.num_known_tokens(make_sequence(range(16))) == 0
    assert blocks.num_known_tokens(make_sequence(range(50, 66))) == 12


def test_a_prompt_waits_until_the_blocks_it_will_need_for_its_chunk_are_free() -> None:
    blocks = with_chunks(10, chunk_size=16)
    first, second = make_sequence(range(30)), make_sequence(range(40, 70))
    assert blocks.allocate(first)
    assert blocks.num_promised(first) == 7  # 21 tokens and a cut block
    assert not blocks.allocate(second, 1, blocks.num_promised(first))
    compute(blocks, first)
    assert blocks.num_promised(first) == 0
    assert not blocks.allocate(second, 0, 0)  # the first holds 4 of 10, the second wants 7
    blocks.free(first)
    assert blocks.allocate(second, 0, 0)


def test_a_model_of_chunked_layers_alone_keeps_no_other_blocks() -> None:
    layout = KvLayout(BLOCK_SIZE, 30, 5, 8, STEP, has_full_layers=False)
    blocks = BlockManager(layout)
    sequence = make_sequence(range(60))
    assert blocks.allocate(sequence)
    compute(blocks, sequence)
    assert (blocks.num_blocks, blocks.num_free_blocks) == (5, 4)
    assert len(blocks.tables(sequence)) == 1
    blocks.free(sequence)
    assert blocks.num_known_tokens(make_sequence([*range(60), 1])) == 60


@pytest.mark.parametrize(
    ("num_chunk_blocks", "max_model_len"), [(2, 8), (3, 400), (1, 4), (100, 400)]
)
def test_the_longest_sequence_is_what_the_pools_can_carry(
    num_chunk_blocks: int, max_model_len: int
) -> None:
    assert with_chunks(num_chunk_blocks, 9).layout.max_model_len == max_model_len


def test_a_leak_is_found() -> None:
    blocks = with_chunks(4, chunk_size=8, num_full_blocks=4)
    sequence = make_sequence([1, 2])
    blocks.allocate(sequence)
    blocks.extend(sequence, 1)
    with pytest.raises(AssertionError, match="tables"):
        blocks.check_integrity([])
    blocks.check_integrity([sequence])
    for owned in (sequence.block_table, sequence.chunk_table):
        owned[0] = 3 - owned[0]
        with pytest.raises(AssertionError):
            blocks.check_integrity([sequence])
        owned[0] = 3 - owned[0]
    blocks.extend(sequence, 2 * BLOCK_SIZE)
    with pytest.raises(AssertionError, match="2 blocks ≠"):
        blocks.check_integrity([sequence])
