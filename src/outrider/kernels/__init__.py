"""The compute kernels and the layout of the weights they read.

`layout` and `reference` are NumPy only; the compiled module is loaded on first use of one of its
names, so that packing and tests of the layout work without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from outrider.errors import ConfigError

if TYPE_CHECKING:
    from outrider.kernels._kernels import (
        Context,
        Experts,
        Program,
        Weight,
        add_bias,
        attend,
        choose_tokens,
        compiler,
        count_products,
        embed,
        gather_rows,
        gelu,
        grouped_linear,
        layernorm,
        linear,
        penalise,
        rank_tokens,
        record,
        rmsnorm,
        rope,
        route,
        scale_rows,
        scatter_add,
        store_kv,
        sum_words,
        supported_isas,
        swiglu,
    )

__all__ = [
    "Context",
    "Experts",
    "Program",
    "Weight",
    "add_bias",
    "attend",
    "choose_tokens",
    "compiler",
    "count_products",
    "embed",
    "gather_rows",
    "gelu",
    "grouped_linear",
    "layernorm",
    "linear",
    "penalise",
    "rank_tokens",
    "record",
    "rmsnorm",
    "rope",
    "route",
    "scale_rows",
    "scatter_add",
    "store_kv",
    "sum_words",
    "supported_isas",
    "swiglu",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module("outrider.kernels._kernels"), name)
    except ImportError as error:
        raise ConfigError(
            f"the compiled kernels can't be loaded ({error}); run `make setup` to build them"
        ) from error
