"""Decides which sequences advance in the next step, and by how many tokens.

There are no phases: a step lets every sequence catch up with its tokens, as far as
`max_num_batched_tokens` allows. Decoding sequences come first, and while there are any the
predicted time of a step is bounded, so that a long prompt never holds them up; then started
prompts, then waiting ones. Age decides every tie; the youngest gives way. Background sequences
count as younger than all others, and while others run they get a small share of the time only.
"""

from __future__ import annotations

import math
from array import array
from bisect import insort
from collections.abc import Sequence as Items
from dataclasses import dataclass

import numpy as np

from outrider.engine.background import BackgroundShare
from outrider.engine.block_manager import FREED, BlockManager
from outrider.engine.prompt_images import Features
from outrider.engine.sequence import Sequence
from outrider.engine.step_time import Budget, StepTimes, Work
from outrider.model.batch import Batch, ImageRows, KvSlots


@dataclass(frozen=True, slots=True)
class Plan:
    """What one step computes: `num_scheduled_tokens[i]` tokens of `sequences[i]`.

    The draft of a sequence that catches up comes on top.
    """

    sequences: list[Sequence]
    num_scheduled_tokens: list[int]

    def build_batch(self, blocks: BlockManager) -> Batch:
        """Lay the plan out as arrays for the runner."""
        token_ids, positions = array("i"), array("i")
        cu_query_lens, seq_lens, logits_rows = array("i", [0]), array("i"), array("i")
        # Arrays of the standard library: right after a forward pass NumPy's code has left the
        # caches, and a dozen of its calls on such small arrays would take longer than all of this.
        for sequence, count in zip(self.sequences, self.num_scheduled_tokens, strict=True):
            start = sequence.num_computed_tokens
            token_ids += sequence.token_ids[start : start + count]
            if start + count == sequence.num_tokens:
                row = len(token_ids) - 1
                token_ids += sequence.draft
                logits_rows.extend(range(row, len(token_ids)))
            end = start + count + len(sequence.draft)
            positions.extend(range(start, end))
            cu_query_lens.append(len(token_ids))
            seq_lens.append(end)
        groups = zip(*(blocks.tables(sequence) for sequence in self.sequences), strict=True)
        return Batch(
            token_ids=np.asarray(token_ids),
            positions=np.asarray(positions),
            cu_query_lens=np.asarray(cu_query_lens),
            seq_lens=np.asarray(seq_lens),
            kv=tuple(self._kv_slots(tables, blocks.block_size) for tables in groups),
            logits_rows=np.asarray(logits_rows),
            images=self._image_rows(),
        )

    def sampled(self) -> list[Sequence]:
        """Give the sequences that catch up in this step, in the order of the logits' rows."""
        return [
            sequence
            for sequence, count in zip(self.sequences, self.num_scheduled_tokens, strict=True)
            if sequence.num_computed_tokens + count == sequence.num_tokens
        ]

    def work(self) -> Work:
        """Give what the step computes, before it is committed."""
        work = Work()
        for sequence, count in zip(self.sequences, self.num_scheduled_tokens, strict=True):
            work.add(sequence.num_computed_tokens, count + len(sequence.draft))
        return work

    def background_share(self) -> float:
        """Give the share of the step's tokens that are background sequences'."""
        counts = zip(self.sequences, self.num_scheduled_tokens, strict=True)
        num_background = sum(count for sequence, count in counts if sequence.is_background)
        return num_background / max(1, sum(self.num_scheduled_tokens))

    def _kv_slots(self, tables: Items[array[int]], block_size: int) -> KvSlots:
        slots, stacked = array("i"), array("i")
        widest = max(len(table) for table in tables)
        unused = array("i", [FREED])
        for index, table in enumerate(tables):
            sequence, count = self.sequences[index], self.num_scheduled_tokens[index]
            start = sequence.num_computed_tokens
            end = start + count + len(sequence.draft)
            _extend_slots(slots, table, start, end, block_size)
            stacked += table
            stacked += unused * (widest - len(table))
        return KvSlots(np.asarray(slots), np.asarray(stacked).reshape(len(tables), widest))

    def _image_rows(self) -> ImageRows | None:
        rows: list[int] = []
        features: list[Features] = []
        first_row = 0
        for sequence, count in zip(self.sequences, self.num_scheduled_tokens, strict=True):
            start = sequence.num_computed_tokens
            if sequence.images is not None:
                positions, parts = sequence.images.rows(start, start + count)
                rows += [first_row + position - start for position in positions]
                features += parts
            first_row += count + len(sequence.draft)
        return ImageRows(np.array(rows, np.int32), np.concatenate(features)) if rows else None


class Scheduler:
    """Keeps the running and the waiting sequences, both oldest first, background ones last."""

    def __init__(
        self,
        blocks: BlockManager,
        max_num_seqs: int,
        max_num_batched_tokens: int,
        max_step_s: float = 0.0,
    ) -> None:
        self.blocks = blocks
        # A running sequence needs one token per step to advance.
        self.max_num_seqs = min(max_num_seqs, max_num_batched_tokens)
        self.max_num_batched_tokens = max_num_batched_tokens
        self.max_step_s = max_step_s  # while sequences decode; 0: no bound
        self.step_times = StepTimes()
        self._decode_s = 0.0  # the last step without a prompt
        self._background = BackgroundShare()
        self.running: list[Sequence] = []
        self.waiting: list[Sequence] = []
        self.num_preemptions = 0

    def add(self, sequence: Sequence) -> None:
        """Put a sequence, and with it the siblings that it holds, among the waiting."""
        insort(self.waiting, sequence, key=_age)

    def remove(self, sequence: Sequence) -> None:
        """Drop a sequence wherever it is and free its blocks; idempotent."""
        for queue in (self.running, self.waiting):
            if sequence in queue:
                queue.remove(sequence)
        self.blocks.free(sequence)

    @property
    def side_time_s(self) -> float:
        """Seconds that may pass between two steps with anything else, such as an image."""
        is_decoding = any(
            s.num_computed_tokens >= s.num_prompt_tokens
            for s in self.running
            if not s.is_background
        )
        if not self.max_step_s or not is_decoding:
            return math.inf
        # In large models steps take longer than the bound anyway: images get as much again.
        return max(self.max_step_s / 2, self._decode_s)

    def schedule(self, spent_s: float = 0.0) -> Plan:
        """Plan one step; empty only if nothing runs or waits.

        `spent_s` have passed since the last step with something else.
        """
        plan = self._plan(spent_s, self._has_background_turn())
        if not plan.sequences:  # the others wait for their images
            plan = self._plan(spent_s, has_background=True)
        return plan

    def _has_background_turn(self) -> bool:
        if self.waiting and not self.waiting[0].is_background:
            return False
        is_alone = not self.running or self.running[0].is_background
        return is_alone or self._background.has_turn

    def _plan(self, spent_s: float, has_background: bool) -> Plan:
        """Plan one step; without background sequences their slots and blocks are free to take."""
        plan = Plan([], [])
        num_preemptions = self.num_preemptions
        self._make_room(has_background)
        budget = self._schedule_running(plan, spent_s, has_background)
        # What was just preempted must not come back at once and evict the next one.
        if num_preemptions == self.num_preemptions:
            self._admit_waiting(plan, budget, has_background)
        return plan

    def observe(self, plan: Plan, time_s: float) -> None:
        """Learn from the measured time of a plan that isn't committed yet."""
        if not self.running or not self.running[0].is_background:
            self._background.observe(plan.background_share(), time_s)
        # Steps without a prompt are another regime: one row has kernels of its own, and few rows
        # meet few experts.
        has_prompt = sum(plan.num_scheduled_tokens) > len(plan.sequences)
        if not has_prompt:
            self._decode_s = time_s
        elif self.max_step_s and time_s > 0:
            self.step_times.observe(plan.work(), time_s)

    def commit(self, plan: Plan) -> None:
        """Account for the tokens that a step has computed and publish their full blocks."""
        for sequence, count in zip(plan.sequences, plan.num_scheduled_tokens, strict=True):
            self.blocks.advance(sequence, count)
            if sequence.siblings and sequence.num_computed_tokens >= sequence.num_prompt_tokens:
                self._release_siblings(sequence)

    def _make_room(self, has_background: bool) -> None:
        """See that every running sequence that takes part can go on by a token."""
        index = 0
        while index < len(self.running):
            sequence = self.running[index]
            if sequence.is_background and not has_background:
                break
            if self.blocks.make_room(sequence):
                index += 1
            else:
                self._preempt(self.running.pop())

    def _preempt(self, sequence: Sequence) -> None:
        self.num_preemptions += 1
        self.blocks.free(sequence)
        insort(self.waiting, sequence, key=_age)

    def _schedule_running(self, plan: Plan, spent_s: float, has_background: bool) -> Budget:
        behind: list[Sequence] = []
        for sequence in self.running:
            if sequence.is_background and not has_background:
                break
            if sequence.num_tokens - sequence.num_computed_tokens > 1:
                behind.append(sequence)
            else:
                plan.sequences.append(sequence)
                plan.num_scheduled_tokens.append(1)
        budget = Budget(self.max_num_batched_tokens - len(plan.sequences))
        if self.max_step_s and plan.sequences and (behind or self.waiting):
            budget.limit_time(self.step_times, plan.work(), self.max_step_s - spent_s)
        for sequence in behind:
            self._schedule(plan, sequence, budget)
        return budget

    def _admit_waiting(self, plan: Plan, budget: Budget, has_background: bool) -> None:
        index = 0
        while index < len(self.waiting) and not budget.is_spent:
            sequence = self.waiting[index]
            if sequence.is_background and not has_background:
                break
            if not self._has_features(sequence):  # younger ones need not wait for its images
                index += 1
                continue
            while not self._take_place(sequence):
                # One in the plan can't leave any more.
                if has_background or not self.running or not self.running[-1].is_background:
                    return
                self._preempt(self.running.pop())
            del self.waiting[index]
            insort(self.running, sequence, key=_age)
            if sequence.num_cached_tokens is None:
                sequence.num_cached_tokens = sequence.num_computed_tokens
            self._schedule(plan, sequence, budget)

    def _take_place(self, sequence: Sequence) -> bool:
        """Give a waiting sequence its first blocks, if there is a slot and room for it."""
        if len(self.running) >= self.max_num_seqs:
            return False
        # One spare block per running sequence, or the newcomer would be preempted soon.
        promised = sum(self.blocks.num_promised(other) for other in self.running)
        return self.blocks.allocate(sequence, len(self.running), promised)

    def _has_features(self, sequence: Sequence) -> bool:
        images = sequence.images
        if images is None or not images.missing(0):
            return True
        return not images.missing(self.blocks.num_known_tokens(sequence))

    def _schedule(self, plan: Plan, sequence: Sequence, budget: Budget) -> None:
        start = sequence.num_computed_tokens
        count = budget.fit(start, sequence.num_tokens - start)
        if count > 0:
            count = self.blocks.extend(sequence, count)
            budget.take(start, count)
            plan.sequences.append(sequence)
            plan.num_scheduled_tokens.append(count)

    def _release_siblings(self, sequence: Sequence) -> None:
        for sibling in sequence.siblings:
            # Their hits on the prompt just computed aren't savings of the caller's prompt.
            sibling.num_cached_tokens = sequence.num_cached_tokens
            self.add(sibling)
        sequence.siblings = []


def _extend_slots(
    slots: array[int], block_table: array[int], start: int, end: int, block_size: int
) -> None:
    """Append the slots of the positions start .. end, block by block."""
    for index in range(start // block_size, -(-end // block_size)):
        first = index * block_size  # position of the block's first slot
        base = block_table[index] * block_size - first
        slots.extend(range(base + max(start, first), base + min(end, first + block_size)))


def _age(sequence: Sequence) -> tuple[bool, int]:
    return sequence.is_background, sequence.id.seq_id
