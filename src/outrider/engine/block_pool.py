"""One pool of KV blocks: which are in use, which still hold something known, which are empty.

Every block is exactly one of: free (content unknown), cached-free (content known, nobody uses it,
evicted least recently used first) or referenced (`ref_counts` tables hold it). What a known block
holds is the affair of its owner, who is told when it is evicted. Blocks that were never used cost
nothing, so a pool may be far larger than what is ever taken from it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable


class BlockPool:
    """Gives out blocks and takes them back; `on_evict` is told whose content is lost."""

    def __init__(self, num_blocks: int, on_evict: Callable[[int], None]) -> None:
        self.num_blocks = num_blocks
        self.ref_counts: list[int] = []  # of the blocks that were ever taken
        self._on_evict = on_evict
        self._free: list[int] = []
        self._cached_free: OrderedDict[int, None] = OrderedDict()  # least recently used first
        self._known: set[int] = set()

    @property
    def num_free(self) -> int:
        """Blocks that can be taken now, those with known content included."""
        num_fresh = self.num_blocks - len(self.ref_counts)
        return num_fresh + len(self._free) + len(self._cached_free)

    def is_idle(self, block: int) -> bool:
        """Say whether no table holds a block."""
        return self.ref_counts[block] == 0

    def take(self) -> int:
        """Give a block of its own to one table; there must be one."""
        if self._free:
            block = self._free.pop()
        elif len(self.ref_counts) < self.num_blocks:
            block = len(self.ref_counts)
            self.ref_counts.append(0)
        else:
            block, _ = self._cached_free.popitem(last=False)
            self._known.remove(block)
            self._on_evict(block)
        self.ref_counts[block] = 1
        return block

    def reference(self, block: int) -> None:
        """Note that one more table holds a known block."""
        if self.ref_counts[block] == 0:
            del self._cached_free[block]
        self.ref_counts[block] += 1

    def release(self, block: int) -> None:
        """Note that one table less holds a block; the last one frees it."""
        self.ref_counts[block] -= 1
        if self.ref_counts[block]:
            return
        if block in self._known:
            self._cached_free[block] = None
        else:
            self._free.append(block)

    def mark_known(self, block: int) -> None:
        """Keep the content of a block when nobody uses it any more."""
        self._known.add(block)

    def forget(self, block: int) -> None:
        """Take a known block that nobody uses for an empty one."""
        self._known.remove(block)
        del self._cached_free[block]
        self._free.append(block)

    def check_integrity(self, held: Counter[int], known: set[int]) -> None:
        """Raise AssertionError unless `held` counts the tables of each block and all fits."""
        free, cached_free = set(self._free), set(self._cached_free)
        assert len(free) == len(self._free), "a block is free twice"
        assert not free & cached_free, "a block is both free and cached"
        assert known == self._known, "the pool and the owner of its content disagree"
        assert cached_free <= known, "an empty block is among the cached"
        assert not known & free, "a cached block is in the plain free list"
        assert not held.keys() - set(range(len(self.ref_counts))), "a table holds no real block"
        for block, ref_count in enumerate(self.ref_counts):
            assert ref_count == held[block], f"block {block}: {ref_count} ≠ {held[block]} tables"
            is_free = block in free or block in cached_free
            assert is_free == (ref_count == 0), f"block {block} leaked or is used while free"
