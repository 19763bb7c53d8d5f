"""How tokens spread over the experts: who is busiest, how many are hit.

A biased random file sends every token to one expert, which flatters every engine: a benchmark of
experts has to show that its file doesn't. Our routing is observed at its kernel, llama.cpp's in
llama_cpp_tap.py.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np

from outrider import kernels
from outrider.model import recorder

Counts = list[list[int]]  # [L, E], rows per expert in each layer


def describe(layers: Counts) -> dict[str, float]:
    """Give means over layers (or steps of layers): experts hit, and the share of the busiest."""
    hit = [sum(count > 0 for count in counts) for counts in layers]
    busiest = [max(counts) / sum(counts) for counts in layers]
    return {
        "num_experts": len(layers[0]),
        "hit": sum(hit) / len(hit),
        "busiest": sum(busiest) / len(busiest),
    }


def sum_steps(calls: Counts, num_layers: int) -> Counts:
    """Add up the counts of steps that were computed one after the other, layer by layer."""
    steps = np.array(calls).reshape(-1, num_layers, len(calls[0]))
    return [[int(count) for count in counts] for counts in steps.sum(axis=0)]


class RoutingTap:
    """Notes what the routing kernel decides while it is entered; slows small steps down.

    They are called one by one meanwhile: in a recorded step no call is seen.
    """

    def __init__(self) -> None:
        self.calls: Counts = []

    def __enter__(self) -> RoutingTap:
        self._route, self._max_tokens = kernels.route, recorder.MAX_TOKENS
        self._noted: list[np.ndarray] = []

        def noting(*arguments: Any) -> None:  # noqa: ANN401 - passed on as they are
            self._route(*arguments)
            self._noted.append(arguments[-1].copy())  # cu_rows

        recorder.MAX_TOKENS = 0
        setattr(kernels, "route", noting)  # noqa: B010 - a name that the module computes
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        setattr(kernels, "route", self._route)  # noqa: B010
        recorder.MAX_TOKENS = self._max_tokens
        self.calls = [np.diff(cu_rows).tolist() for cu_rows in self._noted]
