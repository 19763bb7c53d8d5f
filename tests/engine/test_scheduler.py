"""Which sequence advances by how much: order, budget, room and the arrays of the batch."""

from __future__ import annotations

import numpy as np

from engine.make_sequences import make_sequence
from fake_engine import PATCH, VISION, check_batch, make_image
from outrider.engine.block_manager import BlockManager, KvLayout
from outrider.engine.prompt_images import PromptImages
from outrider.engine.scheduler import Plan, Scheduler
from outrider.engine.sequence import Sequence, to_token_array

BLOCK_SIZE = 16


def numbered_sequence(seq_id: int, num_tokens: int) -> Sequence:
    return make_sequence([100 * seq_id + offset for offset in range(num_tokens)], seq_id, seq_id)


def make_scheduler(
    *lengths: int, max_num_seqs: int = 8, max_num_batched_tokens: int = 64, **layout: int
) -> tuple[Scheduler, list[Sequence]]:
    sizes = {"num_full_blocks": 100, "num_batched_tokens": max_num_batched_tokens, **layout}
    blocks = BlockManager(KvLayout(BLOCK_SIZE, **sizes))
    scheduler = Scheduler(blocks, max_num_seqs, max_num_batched_tokens)
    sequences = [numbered_sequence(seq_id, length) for seq_id, length in enumerate(lengths)]
    for sequence in sequences:
        scheduler.add(sequence)
    return scheduler, sequences


def advance(scheduler: Scheduler) -> dict[int, int]:
    """Make a step in which every sequence that catches up gets a token; give the plan by id."""
    plan = scheduler.schedule()
    if plan.sequences:
        check_batch(plan.build_batch(scheduler.blocks), chunk_sizes(scheduler))
    sampled = plan.sampled()
    scheduler.commit(plan)
    for sequence in sampled:
        sequence.token_ids.append(7)
    scheduler.blocks.check_integrity(scheduler.running)
    return by_id(plan)


def chunk_sizes(scheduler: Scheduler) -> tuple[int, ...]:
    chunk_size = scheduler.blocks.layout.chunk_size
    return (0, chunk_size) if chunk_size else (0,)


def by_id(plan: Plan) -> dict[int, int]:
    return {
        sequence.id.seq_id: count
        for sequence, count in zip(plan.sequences, plan.num_scheduled_tokens, strict=True)
    }


def test_prompts_share_the_budget_in_the_order_of_arrival() -> None:
    scheduler, _ = make_scheduler(30, 50, 10)
    assert advance(scheduler) == {0: 30, 1: 34}
    assert advance(scheduler) == {0: 1, 1: 16, 2: 10}
    assert advance(scheduler) == {0: 1, 1: 1, 2: 1}


def test_decoding_sequences_come_before_a_started_older_prompt() -> None:
    scheduler, (long, short) = make_scheduler(200, 5)
    scheduler.remove(short)
    assert advance(scheduler) == {0: 64}
    late = numbered_sequence(1, 1)
    scheduler.add(late)
    long.token_ids = long.token_ids[:120]
    assert advance(scheduler) == {0: 56, 1: 1}
    long.token_ids += to_token_array(range(300))
    assert advance(scheduler) == {0: 63, 1: 1}


def test_at_most_max_num_seqs_run() -> None:
    scheduler, sequences = make_scheduler(1, 1, 1, max_num_seqs=2)
    assert advance(scheduler) == {0: 1, 1: 1}
    scheduler.remove(sequences[0])
    scheduler.remove(sequences[0])
    assert advance(scheduler) == {1: 1, 2: 1}


def test_no_more_sequences_run_than_tokens_fit_into_a_step() -> None:
    scheduler, _ = make_scheduler(1, 1, 1, 1, max_num_batched_tokens=3)
    for _ in range(3):
        assert advance(scheduler) == {0: 1, 1: 1, 2: 1}


def test_the_youngest_gives_way_and_comes_back_first() -> None:
    scheduler, sequences = make_scheduler(15, 15, 15, num_full_blocks=5)
    assert advance(scheduler) == {0: 15, 1: 15, 2: 15}
    advance(scheduler)
    assert advance(scheduler) == {0: 1, 1: 1}  # tokens 17 need blocks; five are not enough
    assert scheduler.num_preemptions == 1
    assert scheduler.waiting == [sequences[2]]
    assert sequences[2].num_computed_tokens == 0
    scheduler.add(numbered_sequence(3, 1))
    scheduler.remove(sequences[0])
    scheduler.remove(sequences[1])
    assert advance(scheduler) == {2: 1, 3: 1}  # its full block was still in the prefix cache


def test_a_newcomer_leaves_a_spare_block_for_each_running_sequence() -> None:
    scheduler, _ = make_scheduler(16, 32, num_full_blocks=3)
    assert advance(scheduler) == {0: 16}
    scheduler, _ = make_scheduler(16, 32, num_full_blocks=4)
    assert advance(scheduler) == {0: 16, 1: 32}


def test_siblings_wait_for_the_prompt_and_then_keep_their_age() -> None:
    scheduler, (leader,) = make_scheduler(40, max_num_batched_tokens=32)
    leader.siblings = [numbered_sequence(1, 40), numbered_sequence(2, 40)]
    scheduler.add(numbered_sequence(3, 1))
    assert advance(scheduler) == {0: 32}
    assert advance(scheduler) == {0: 8, 3: 1}
    assert [sequence.id.seq_id for sequence in scheduler.waiting] == [1, 2]


def test_the_batch_holds_chunks_and_single_tokens_side_by_side() -> None:
    scheduler, (first, second) = make_scheduler(3, 40, max_num_batched_tokens=20)
    advance(scheduler)
    batch = scheduler.schedule().build_batch(scheduler.blocks)
    assert batch.token_ids.tolist() == [7, *range(117, 136)]
    assert batch.positions.tolist() == [3, *range(17, 36)]
    assert batch.cu_query_lens.tolist() == [0, 1, 20]
    assert batch.seq_lens.tolist() == [4, 36]
    assert batch.logits_rows.tolist() == [0]
    tables = [[first.block_table[0], -1, -1], second.block_table.tolist()]
    assert batch.kv[0].block_tables.tolist() == tables
    expected = [
        second.block_table[position // 16] * 16 + position % 16 for position in range(17, 36)
    ]
    assert batch.kv[0].slot_mapping.tolist() == [first.block_table[0] * 16 + 3, *expected]


def test_nothing_to_do_is_an_empty_plan() -> None:
    scheduler, _ = make_scheduler()
    assert scheduler.schedule() == Plan([], [])


def test_a_prompt_takes_chunked_blocks_only_for_its_step() -> None:
    scheduler, (sequence,) = make_scheduler(
        1000, max_num_batched_tokens=100, num_chunk_blocks=50, chunk_size=64
    )
    for num_computed in range(100, 1000, 100):
        assert advance(scheduler) == {0: 100}
        held = len(sequence.chunk_table) - sequence.num_freed_blocks
        assert held == -(-num_computed // 16) - num_computed // 64 * 4


def test_a_step_is_cut_to_the_chunked_blocks_that_are_free() -> None:
    scheduler, _ = make_scheduler(300, num_chunk_blocks=4, chunk_size=40)
    num_computed = 0
    while num_computed < 300:
        (count,) = advance(scheduler).values()
        assert 1 <= count <= 64
        num_computed += count


def test_a_second_prompt_waits_for_the_chunk_of_the_first() -> None:
    sizes = {"num_chunk_blocks": 7, "chunk_size": 64, "max_num_batched_tokens": 32}
    scheduler, _ = make_scheduler(60, 60, **sizes)
    assert advance(scheduler) == {0: 32}
    assert advance(scheduler) == {0: 28}  # 4 of 7 blocks are in use
    for _ in range(4):
        assert advance(scheduler) == {0: 1}
    assert advance(scheduler) == {0: 1, 1: 31}  # the first one is in its next chunk


def test_decoding_sequences_without_chunked_blocks_preempt_the_youngest() -> None:
    scheduler, sequences = make_scheduler(16, 16, 16, num_chunk_blocks=6, chunk_size=48)
    assert advance(scheduler) == {0: 16, 1: 16, 2: 16}
    for _ in range(16):
        assert advance(scheduler) == {0: 1, 1: 1, 2: 1}
    assert advance(scheduler) == {0: 1, 1: 1}
    assert scheduler.waiting == [sequences[2]]
    for _ in range(15):
        assert advance(scheduler) == {0: 1, 1: 1}
    # Both have left their first chunk, but a newcomer would need the spare blocks of their next.
    assert advance(scheduler) == {0: 1, 1: 1}
    scheduler.remove(sequences[0])
    assert advance(scheduler) == {1: 1, 2: 33}  # the others have taken the blocks of its chunk
    assert scheduler.num_preemptions == 1


def test_a_sequence_whose_image_is_not_encoded_lets_younger_ones_pass() -> None:
    scheduler, _ = make_scheduler(5)
    images = PromptImages([make_image(1)], [PATCH] * VISION.tokens_per_tile, VISION)
    waiting = make_sequence([PATCH] * VISION.tokens_per_tile, 1, images=images)
    scheduler.add(waiting)
    scheduler.add(numbered_sequence(2, 3))
    assert advance(scheduler) == {0: 5, 2: 3}
    images.features = [np.ones((VISION.tokens_per_tile, 2), np.float32)]
    plan = scheduler.schedule()
    assert by_id(plan) == {0: 1, 2: 1, 1: 4}
    rows = plan.build_batch(scheduler.blocks).images
    assert rows is not None
    assert rows.rows.tolist() == [2, 3, 4, 5]
