"""Which sequence advances by how much: order, budget, room and the arrays of the batch."""

from __future__ import annotations

from fake_engine import FakeTokenizer, check_batch
from outrider.engine.block_manager import BlockManager
from outrider.engine.detokenizer import Detokenizer
from outrider.engine.sampler import SamplerState
from outrider.engine.scheduler import Plan, Scheduler
from outrider.engine.sequence import Sequence, SequenceId, to_token_array
from outrider.types import SamplingParams

BLOCK_SIZE = 16


def make_sequence(seq_id: int, num_tokens: int) -> Sequence:
    params = SamplingParams(seed=0)
    token_ids = tuple(100 * seq_id + offset for offset in range(num_tokens))
    return Sequence(
        id=SequenceId(seq_id, str(seq_id), 0, 0, ("root", seq_id)),
        sampling=params,
        token_ids=to_token_array(token_ids),
        num_prompt_tokens=num_tokens,
        max_num_tokens=1000,
        sampler=SamplerState(params, 0, token_ids),
        detokenizer=Detokenizer(FakeTokenizer()),
        logprobs=None,
    )


def make_scheduler(
    *lengths: int, num_blocks: int = 100, max_num_seqs: int = 8, max_num_batched_tokens: int = 64
) -> tuple[Scheduler, list[Sequence]]:
    blocks = BlockManager(num_blocks, BLOCK_SIZE)
    scheduler = Scheduler(blocks, max_num_seqs, max_num_batched_tokens)
    sequences = [make_sequence(seq_id, length) for seq_id, length in enumerate(lengths)]
    for sequence in sequences:
        scheduler.add(sequence)
    return scheduler, sequences


def advance(scheduler: Scheduler) -> dict[int, int]:
    """Make a step in which every sequence that catches up gets a token; give the plan by id."""
    plan = scheduler.schedule()
    check_batch(plan.build_batch(BLOCK_SIZE))
    sampled = plan.sampled()
    scheduler.commit(plan)
    for sequence in sampled:
        sequence.token_ids.append(7)
    scheduler.blocks.check_integrity(scheduler.running)
    return by_id(plan)


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
    late = make_sequence(1, 1)
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
    scheduler, sequences = make_scheduler(15, 15, 15, num_blocks=5)
    assert advance(scheduler) == {0: 15, 1: 15, 2: 15}
    advance(scheduler)
    assert advance(scheduler) == {0: 1, 1: 1}  # tokens 17 need blocks; five are not enough
    assert scheduler.num_preemptions == 1
    assert scheduler.waiting == [sequences[2]]
    assert sequences[2].num_computed_tokens == 0
    scheduler.add(make_sequence(3, 1))
    scheduler.remove(sequences[0])
    scheduler.remove(sequences[1])
    assert advance(scheduler) == {2: 1, 3: 1}  # its full block was still in the prefix cache


def test_a_newcomer_leaves_a_spare_block_for_each_running_sequence() -> None:
    scheduler, _ = make_scheduler(16, 32, num_blocks=3)
    assert advance(scheduler) == {0: 16}
    scheduler, _ = make_scheduler(16, 32, num_blocks=4)
    assert advance(scheduler) == {0: 16, 1: 32}


def test_siblings_wait_for_the_prompt_and_then_keep_their_age() -> None:
    scheduler, (leader,) = make_scheduler(40, max_num_batched_tokens=32)
    leader.siblings = [make_sequence(1, 40), make_sequence(2, 40)]
    scheduler.add(make_sequence(3, 1))
    assert advance(scheduler) == {0: 32}
    assert advance(scheduler) == {0: 8, 3: 1}
    assert [sequence.id.seq_id for sequence in scheduler.waiting] == [1, 2]


def test_the_batch_holds_chunks_and_single_tokens_side_by_side() -> None:
    scheduler, (first, second) = make_scheduler(3, 40, max_num_batched_tokens=20)
    advance(scheduler)
    batch = scheduler.schedule().build_batch(BLOCK_SIZE)
    assert batch.token_ids.tolist() == [7, *range(117, 136)]
    assert batch.positions.tolist() == [3, *range(17, 36)]
    assert batch.cu_query_lens.tolist() == [0, 1, 20]
    assert batch.seq_lens.tolist() == [4, 36]
    assert batch.logits_rows.tolist() == [0]
    tables = [[first.block_table[0], 0, 0], second.block_table.tolist()]
    assert batch.block_tables.tolist() == tables
    expected = [
        second.block_table[position // 16] * 16 + position % 16 for position in range(17, 36)
    ]
    assert batch.slot_mapping.tolist() == [first.block_table[0] * 16 + 3, *expected]


def test_nothing_to_do_is_an_empty_plan() -> None:
    scheduler, _ = make_scheduler()
    assert scheduler.schedule() == Plan([], [])
