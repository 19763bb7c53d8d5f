"""Who owns which block of the KV cache, and which blocks hold a known beginning of a prompt.

Every block is exactly one of: free (content unknown), cached-free (content known, nobody uses it,
evicted oldest first) or referenced (`ref_count` block tables hold it). Only full blocks are
shared and a shared block is never written. The memory itself belongs to the runner.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable

from outrider.engine.sequence import CacheRoot, Sequence

# What a cached block holds: its 16 token ids after the content of its parent block. The parent is
# named by its block (or the cache root), which makes equality of a whole prefix exact: there is no
# digest that could collide. It works because a parent is never evicted before its children.
Parent = int | CacheRoot
Key = tuple[Parent, bytes]


class BlockManager:
    """Allocates blocks to sequences, shares equal prefixes and evicts the least recently used."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._free = list(range(num_blocks - 1, -1, -1))
        self._cached_free: OrderedDict[int, None] = OrderedDict()  # least recently used first
        self._ref_counts = [0] * num_blocks
        self._keys: list[Key | None] = [None] * num_blocks
        self._blocks: dict[Key, int] = {}

    @property
    def num_free_blocks(self) -> int:
        """Blocks that can be allocated now, those with reusable content included."""
        return len(self._free) + len(self._cached_free)

    def allocate(self, sequence: Sequence, num_spare_blocks: int = 0) -> bool:
        """Give a sequence without blocks all blocks for its tokens, cached ones where possible.

        Sets `num_computed_tokens` to the prefix hit. False, and nothing changed, unless
        `num_spare_blocks` would still be free afterwards.
        """
        assert not sequence.block_table
        hits = self._find_prefix(sequence)
        num_new = -(-sequence.num_tokens // self.block_size) - len(hits)
        num_revived = sum(self._ref_counts[block] == 0 for block in hits)
        if self.num_free_blocks - num_revived - num_new < num_spare_blocks:
            return False
        for block in hits:
            self._reference(block)
        sequence.block_table.extend(hits)
        sequence.block_table.extend([self._take() for _ in range(num_new)])
        sequence.num_registered_blocks = len(hits)
        sequence.num_computed_tokens = len(hits) * self.block_size
        return True

    def has_room(self, sequence: Sequence) -> bool:
        """Say whether the blocks of a sequence hold all its tokens."""
        return sequence.num_tokens <= len(sequence.block_table) * self.block_size

    def append(self, sequence: Sequence) -> bool:
        """Add one block to a sequence; False if none is free."""
        if not self.num_free_blocks:
            return False
        sequence.block_table.append(self._take())
        return True

    def free(self, sequence: Sequence) -> None:
        """Take all blocks from a sequence and forget what it computed."""
        # Tail first: a block is evicted before the blocks it continues.
        for block in reversed(sequence.block_table):
            self._release(block)
        del sequence.block_table[:]
        sequence.num_registered_blocks = 0
        sequence.num_computed_tokens = 0

    def register(self, sequence: Sequence) -> None:
        """Make the full, computed blocks of a sequence known to the prefix cache.

        A block whose content is known already is replaced by the known one, so that a referenced
        block's parent is always referenced too.
        """
        num_full = sequence.num_computed_tokens // self.block_size
        for index in range(sequence.num_registered_blocks, num_full):
            block = sequence.block_table[index]
            key = self._key(sequence, index)
            known = self._blocks.setdefault(key, block)
            if known == block:
                self._keys[block] = key
            else:
                self._reference(known)
                self._release(block)
                sequence.block_table[index] = known
        sequence.num_registered_blocks = max(num_full, sequence.num_registered_blocks)

    def check_integrity(self, sequences: Iterable[Sequence]) -> None:
        """Raise AssertionError unless every block is accounted for by exactly one owner kind."""
        held = Counter[int]()
        for sequence in sequences:
            table = sequence.block_table.tolist()
            assert len(set(table)) == len(table), f"a block is twice in one table: {table}"
            assert sequence.num_computed_tokens <= len(table) * self.block_size
            held.update(table)
        free, cached_free = set(self._free), set(self._cached_free)
        assert len(free) == len(self._free), "a block is free twice"
        assert not free & cached_free, "a block is both free and cached"
        for block, ref_count in enumerate(self._ref_counts):
            assert ref_count == held[block], f"block {block}: {ref_count} ≠ {held[block]} tables"
            is_free = block in free or block in cached_free
            assert is_free == (ref_count == 0), f"block {block} leaked or is used while free"
        self._check_cache(free)

    def _check_cache(self, free: set[int]) -> None:
        assert {block: key for block, key in enumerate(self._keys) if key is not None} == {
            block: key for key, block in self._blocks.items()
        }, "the prefix cache and its blocks disagree"
        for (parent, _), block in self._blocks.items():
            assert block not in free, f"cached block {block} is in the plain free list"
            if isinstance(parent, int):
                assert self._keys[parent] is not None, f"parent of block {block} was evicted first"
                assert self._ref_counts[parent] >= self._ref_counts[block]

    def _find_prefix(self, sequence: Sequence) -> list[int]:
        # At least one token is always computed, because its logits are wanted.
        max_hits = (sequence.num_tokens - 1) // self.block_size
        hits: list[int] = []
        parent: Parent = sequence.id.cache_root
        for index in range(max_hits):
            block = self._blocks.get((parent, sequence.block_token_ids(index, self.block_size)))
            if block is None:
                break
            hits.append(block)
            parent = block
        return hits

    def _key(self, sequence: Sequence, index: int) -> Key:
        parent: Parent = sequence.id.cache_root
        if index > 0:
            parent = sequence.block_table[index - 1]
        return parent, sequence.block_token_ids(index, self.block_size)

    def _reference(self, block: int) -> None:
        if self._ref_counts[block] == 0:
            del self._cached_free[block]
        self._ref_counts[block] += 1

    def _release(self, block: int) -> None:
        self._ref_counts[block] -= 1
        if self._ref_counts[block]:
            return
        if self._keys[block] is None:
            self._free.append(block)
        else:
            self._cached_free[block] = None

    def _take(self) -> int:
        if self._free:
            block = self._free.pop()
        else:
            block, _ = self._cached_free.popitem(last=False)
            key = self._keys[block]
            assert key is not None
            del self._blocks[key]
            self._keys[block] = None
        self._ref_counts[block] = 1
        return block
