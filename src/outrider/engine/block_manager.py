"""Who owns which block of the KV cache, and which blocks hold a known beginning of a prompt.

A model has up to two groups of layers. The blocks of layers that see everything stay with their
sequence to its end. Those of chunked layers are taken step by step and let go of as soon as no
later token can see them. Only full blocks are shared and a shared block is never written. The
memory itself belongs to the runner.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from outrider.engine.block_pool import BlockPool
from outrider.engine.memory import widest_window
from outrider.engine.sequence import CacheRoot, Sequence

# What a cached block holds: its 16 tokens after the content of its parent block. The parent is
# named by its block (or the cache root), which makes equality of a whole prefix exact: there is no
# digest of tokens that could collide. It works because a parent is never evicted before its
# children.
Parent = int | CacheRoot
Key = tuple[Parent, bytes]

FREED = -1  # entry of a table whose block no later token can see


@dataclass(frozen=True, slots=True)
class KvLayout:
    """The pools of one model; a group that it lacks has no blocks."""

    block_size: int
    num_full_blocks: int  # of layers that see everything
    num_chunk_blocks: int = 0
    chunk_size: int = 0  # positions; 0: no chunked layers
    num_batched_tokens: int = 0  # of one step, at most
    # A model whose layers are all chunked has no KV in the full pool; prefixes are told apart by
    # its blocks all the same, which then are names only.
    has_full_layers: bool = True

    @property
    def widest_window(self) -> int:
        """Most blocks of chunked layers that a sequence holds while a step of it is computed."""
        return widest_window(self.chunk_size, self.num_batched_tokens, self.block_size)

    def num_sequences(self, num_tokens: int) -> int:
        """Count the sequences of a length that can run together."""
        whole = -(-num_tokens // self.block_size)
        count = self.num_full_blocks // whole
        if self.chunk_size:
            count = min(count, self.num_chunk_blocks // min(whole, self.widest_window))
        return count

    @property
    def max_model_len(self) -> int:
        """Longest sequence that can be computed when it has all blocks for itself, in tokens."""
        longest = self.num_full_blocks * self.block_size
        # A chunk that begins anywhere in a block; with that many it goes on, token by token.
        widest = (self.chunk_size + self.block_size - 2) // self.block_size + 1
        if self.chunk_size and self.num_chunk_blocks < widest:
            longest = min(longest, self.num_chunk_blocks * self.block_size)
        return longest


@dataclass(frozen=True, slots=True)
class Prefix:
    """The longest known beginning of a sequence that it can go on from."""

    full_blocks: list[int]
    chunk_blocks: list[int]  # of the chunk that the next token is in

    @property
    def num_blocks(self) -> int:
        """Blocks whose tokens need not be computed."""
        return len(self.full_blocks)


class BlockManager:
    """Allocates blocks to sequences, shares equal prefixes and evicts the least recently used."""

    def __init__(self, layout: KvLayout) -> None:
        self.layout = layout
        self.block_size = layout.block_size
        self._full = BlockPool(layout.num_full_blocks, self._forget_full)
        self._chunked = BlockPool(layout.num_chunk_blocks, self._forget_chunked)
        self._keys: dict[int, Key] = {}  # by full block
        self._blocks: dict[Key, int] = {}
        # The chunked layers' block of the same 16 tokens, by full block, and back. What a full
        # block stands for, a whole prefix, is what the keys of chunked layers depend on, too.
        self._chunk_of: dict[int, int] = {}
        self._full_of: dict[int, int] = {}

    @property
    def num_blocks(self) -> int:
        """Blocks that hold keys and values."""
        return sum(pool.num_blocks for pool in self._real_pools())

    @property
    def num_free_blocks(self) -> int:
        """Blocks that can be allocated now, those with reusable content included."""
        return sum(pool.num_free for pool in self._real_pools())

    def tables(self, sequence: Sequence) -> tuple[array[int], ...]:
        """Give the block tables of a sequence in the order of `ModelConfig.kv_groups()`."""
        full = (sequence.block_table,) if self.layout.has_full_layers else ()
        return (*full, sequence.chunk_table) if self.layout.chunk_size else full

    def num_known_tokens(self, sequence: Sequence) -> int:
        """Count the tokens that `allocate` would find computed."""
        return self._find_prefix(sequence).num_blocks * self.block_size

    def allocate(self, sequence: Sequence, num_spare_blocks: int = 0, promised: int = 0) -> bool:
        """Let a sequence without blocks start: all its full blocks, cached ones where possible.

        Sets `num_computed_tokens` to the prefix hit. Of the chunked pool only the hits are taken;
        `promised` of its blocks are for others. False, and nothing changed, unless
        `num_spare_blocks` of each pool would still be free in the end.
        """
        assert not sequence.block_table
        prefix = self._find_prefix(sequence)
        num_new = self._num_blocks(sequence.num_tokens) - prefix.num_blocks
        num_revived = sum(self._full.is_idle(block) for block in prefix.full_blocks)
        if self._full.num_free - num_revived - num_new < num_spare_blocks:
            return False
        num_computed = prefix.num_blocks * self.block_size
        if not self._has_chunk_room(sequence, prefix, num_spare_blocks + promised):
            return False
        for block in prefix.full_blocks:
            self._full.reference(block)
        for block in prefix.chunk_blocks:
            self._chunked.reference(block)
        sequence.block_table.extend(prefix.full_blocks)
        sequence.block_table.extend([self._full.take() for _ in range(num_new)])
        if self.layout.chunk_size:
            sequence.num_freed_blocks = prefix.num_blocks - len(prefix.chunk_blocks)
            sequence.chunk_table.extend([FREED] * sequence.num_freed_blocks)
            sequence.chunk_table.extend(prefix.chunk_blocks)
        sequence.num_registered_blocks = prefix.num_blocks
        sequence.num_computed_tokens = num_computed
        return True

    def make_room(self, sequence: Sequence) -> bool:
        """See that a sequence can go on by a token; False if no block is free for that."""
        while sequence.num_tokens > len(sequence.block_table) * self.block_size:
            if not self._full.num_free:
                return False
            sequence.block_table.append(self._full.take())
        return self.extend(sequence, 1) == 1

    def extend(self, sequence: Sequence, count: int) -> int:
        """Take chunked blocks for the next `count` tokens; give for how many there is room."""
        if not self.layout.chunk_size:
            return count
        end = sequence.num_computed_tokens + count
        table = sequence.chunk_table
        while len(table) * self.block_size < end and self._chunked.num_free:
            table.append(self._chunked.take())
        return min(count, len(table) * self.block_size - sequence.num_computed_tokens)

    def lend(self, sequence: Sequence, count: int) -> int:
        """Take blocks for guesses behind the last token; give for how many there is room."""
        end = sequence.num_tokens + count
        for pool, table in self._tables(sequence):
            end = min(end, (len(table) + pool.num_free) * self.block_size)
        for pool, table in self._tables(sequence):
            while len(table) * self.block_size < end:
                table.append(pool.take())
        return end - sequence.num_tokens

    def settle(self, sequence: Sequence, count: int) -> None:
        """Account for `count` guesses that came true; take back the blocks of the others."""
        self.advance(sequence, count)
        for pool, table in self._tables(sequence):
            while len(table) > self._num_blocks(sequence.num_tokens):
                pool.release(table.pop())

    def num_promised(self, sequence: Sequence) -> int:
        """Count the chunked blocks that a sequence will yet take until it has caught up."""
        if not self.layout.chunk_size:
            return 0
        num_held = len(sequence.chunk_table) - sequence.num_freed_blocks
        return max(0, self._chunk_peak(sequence, sequence.num_computed_tokens) - num_held)

    def advance(self, sequence: Sequence, count: int) -> None:
        """Account for `count` computed tokens: publish full blocks, let go of passed ones."""
        sequence.num_computed_tokens += count
        num_full = sequence.num_computed_tokens // self.block_size
        if num_full > sequence.num_registered_blocks:
            self._register(sequence, num_full)
        if self.layout.chunk_size:
            self._free_passed(sequence)

    def free(self, sequence: Sequence) -> None:
        """Take all blocks from a sequence and forget what it computed."""
        # Tail first: a block is evicted before the blocks it continues.
        for block in reversed(sequence.chunk_table[sequence.num_freed_blocks :]):
            self._chunked.release(block)
        for block in reversed(sequence.block_table):
            self._full.release(block)
        del sequence.block_table[:]
        del sequence.chunk_table[:]
        sequence.num_freed_blocks = 0
        sequence.num_registered_blocks = 0
        sequence.num_computed_tokens = 0

    def _register(self, sequence: Sequence, num_full: int) -> None:
        """Make the full, computed blocks of a sequence known to the prefix cache.

        A block whose content is known already is replaced by the known one, so that a referenced
        block's parent is always referenced too.
        """
        for index in range(sequence.num_registered_blocks, num_full):
            block = sequence.block_table[index]
            key = self._key(sequence, index)
            known = self._blocks.setdefault(key, block)
            if known == block:
                self._keys[block] = key
                self._full.mark_known(block)
            else:
                self._full.reference(known)
                self._full.release(block)
                sequence.block_table[index] = known
            if self.layout.chunk_size:
                self._register_chunked(sequence, index, known)
        sequence.num_registered_blocks = num_full

    def _register_chunked(self, sequence: Sequence, index: int, full_block: int) -> None:
        block = sequence.chunk_table[index]
        known = self._chunk_of.setdefault(full_block, block)
        if known == block:
            self._full_of[block] = full_block
            self._chunked.mark_known(block)
        else:
            self._chunked.reference(known)
            self._chunked.release(block)
            sequence.chunk_table[index] = known

    def _free_passed(self, sequence: Sequence) -> None:
        """Let go of the blocks that lie wholly before the chunk of the next token."""
        first = self._chunk_start(sequence.num_computed_tokens) // self.block_size
        table = sequence.chunk_table
        for index in reversed(range(sequence.num_freed_blocks, first)):
            self._chunked.release(table[index])
            table[index] = FREED
        sequence.num_freed_blocks = first

    def _find_prefix(self, sequence: Sequence) -> Prefix:
        # At least one token is always computed, because its logits are wanted.
        max_hits = (sequence.num_tokens - 1) // self.block_size
        hits: list[int] = []
        parent: Parent = sequence.id.cache_root
        for index in range(max_hits):
            block = self._blocks.get((parent, sequence.block_content(index, self.block_size)))
            if block is None:
                break
            hits.append(block)
            parent = block
        return self._cut_prefix(hits) if self.layout.chunk_size else Prefix(hits, [])

    def _cut_prefix(self, hits: list[int]) -> Prefix:
        """Find the longest part of a known prefix whose chunk is known from its start.

        Where a chunk ends at the end of a block nothing of it is needed to go on.
        """
        end = len(hits)
        while True:
            begin = self._chunk_start(end * self.block_size) // self.block_size
            index = end - 1
            while index >= begin and hits[index] in self._chunk_of:
                index -= 1
            if index < begin:
                return Prefix(hits[:end], [self._chunk_of[hit] for hit in hits[begin:end]])
            end = index  # whatever ends later in this chunk needs that block, too

    def _has_chunk_room(self, sequence: Sequence, prefix: Prefix, num_others: int) -> bool:
        if not self.layout.chunk_size:
            return True
        num_revived = sum(self._chunked.is_idle(block) for block in prefix.chunk_blocks)
        peak = self._chunk_peak(sequence, prefix.num_blocks * self.block_size)
        num_new = peak - len(prefix.chunk_blocks)
        return self._chunked.num_free - num_revived - num_new >= num_others

    def _chunk_peak(self, sequence: Sequence, num_computed_tokens: int) -> int:
        """Give the most chunked blocks that a sequence holds until it has caught up."""
        layout = self.layout
        first = self._chunk_start(num_computed_tokens) // self.block_size
        whole = self._num_blocks(sequence.num_tokens) - first
        # With a pool below that a sequence goes on in smaller steps.
        return min(whole, layout.widest_window, layout.num_chunk_blocks)

    def _chunk_start(self, position: int) -> int:
        return position - position % self.layout.chunk_size

    def _num_blocks(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def _key(self, sequence: Sequence, index: int) -> Key:
        parent: Parent = sequence.id.cache_root
        if index > 0:
            parent = sequence.block_table[index - 1]
        return parent, sequence.block_content(index, self.block_size)

    def _forget_full(self, block: int) -> None:
        del self._blocks[self._keys.pop(block)]
        chunk_block = self._chunk_of.pop(block, None)
        if chunk_block is not None:  # without its prefix nobody can find it any more
            del self._full_of[chunk_block]
            self._chunked.forget(chunk_block)

    def _forget_chunked(self, block: int) -> None:
        del self._chunk_of[self._full_of.pop(block)]

    def _tables(self, sequence: Sequence) -> list[tuple[BlockPool, array[int]]]:
        full = [(self._full, sequence.block_table)]
        return [*full, (self._chunked, sequence.chunk_table)] if self.layout.chunk_size else full

    def _real_pools(self) -> list[BlockPool]:
        pools = [self._full] if self.layout.has_full_layers else []
        return [*pools, self._chunked] if self.layout.chunk_size else pools

    def check_integrity(self, sequences: Iterable[Sequence]) -> None:
        """Raise AssertionError unless every block is accounted for by exactly one owner kind.

        Chunked layers hold exactly what the next token of each sequence needs.
        """
        held_full, held_chunked = Counter[int](), Counter[int]()
        for sequence in sequences:
            table = sequence.block_table.tolist()
            assert len(set(table)) == len(table), f"a block is twice in one table: {table}"
            assert sequence.num_computed_tokens <= len(table) * self.block_size
            held_full.update(table)
            if self.layout.chunk_size:
                held_chunked.update(self._check_chunk_table(sequence))
        self._full.check_integrity(held_full, set(self._keys))
        self._chunked.check_integrity(held_chunked, set(self._full_of))
        self._check_cache()

    def _check_chunk_table(self, sequence: Sequence) -> list[int]:
        table, num_freed = sequence.chunk_table.tolist(), sequence.num_freed_blocks
        num_computed = sequence.num_computed_tokens
        assert num_freed == self._chunk_start(num_computed) // self.block_size
        assert table[:num_freed] == [FREED] * num_freed
        held = table[num_freed:]
        assert len(set(held)) == len(held), f"a block is twice in one table: {held}"
        assert FREED not in held, "a block was freed too early"
        # A sequence that had to wait in this step may hold the block of its next token already.
        num_needed = self._num_blocks(num_computed), self._num_blocks(num_computed + 1)
        assert len(table) in num_needed, f"{len(table)} blocks ≠ {num_needed}"
        return held

    def _check_cache(self) -> None:
        assert self._keys == {block: key for key, block in self._blocks.items()}
        assert self._chunk_of == {full: block for block, full in self._full_of.items()}
        for (parent, _), block in self._blocks.items():
            if isinstance(parent, int):
                assert parent in self._keys, f"parent of block {block} was evicted first"
                assert self._full.ref_counts[parent] >= self._full.ref_counts[block]
        for full_block, block in self._chunk_of.items():
            assert full_block in self._keys, f"the prefix of block {block} was evicted first"
            assert self._full.ref_counts[full_block] >= self._chunked.ref_counts[block]
