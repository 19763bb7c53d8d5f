from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

class Context:
    def __new__(cls, num_threads: int, isa: str = "auto") -> Context: ...
    @property
    def isa(self) -> str: ...
    @property
    def num_threads(self) -> int: ...

class Weight:
    def __init__(self, format: int, rows: int, cols: int, data: NDArray[np.uint8]) -> None: ...
    @property
    def format(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def cols(self) -> int: ...

def supported_isas() -> list[str]: ...
def linear(
    context: Context,
    x: F32,
    weights: Sequence[Weight],
    outs: Sequence[F32],
    accumulate: bool = False,
) -> None: ...
def embed(context: Context, weight: Weight, token_ids: I32, out: F32) -> None: ...
def rmsnorm(context: Context, x: F32, gain: F32, eps: float, out: F32) -> None: ...
def rope(context: Context, x: F32, cosines: F32, sines: F32) -> None: ...
def swiglu(context: Context, gate: F32, up: F32, out: F32) -> None: ...
def store_kv(
    context: Context,
    k: F32,
    v: F32,
    k_cache: NDArray[np.generic],
    v_cache: NDArray[np.generic],
    slot_mapping: I32,
) -> None: ...
def attend(
    context: Context,
    q: F32,
    cache: tuple[NDArray[np.generic], NDArray[np.generic]],
    sequences: tuple[I32, I32, I32],
    chunk_size: int,
    scale: float,
    out: F32,
) -> None: ...
