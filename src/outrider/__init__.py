"""Outrider: run Meta's Llama 4 Scout and its family yourself.

The public library is `LLM`, `SamplingParams` and `EmbeddingModel`. They are loaded on first use,
so that `import outrider` stays cheap for the command line.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outrider.embedding_model import EmbeddingModel
    from outrider.llm import LLM, Completion
    from outrider.types import SamplingParams

__all__ = ["LLM", "Completion", "EmbeddingModel", "SamplingParams"]
__version__ = "0.1.0"

_HOMES = {
    "LLM": "outrider.llm",
    "Completion": "outrider.llm",
    "EmbeddingModel": "outrider.embedding_model",
    "SamplingParams": "outrider.types",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'outrider' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
