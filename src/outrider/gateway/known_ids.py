"""The ids under which hosted services know a model, so that their clients find it as it is.

A served model is recognised by its name, whoever packed it and in whatever format; fine-tunes are
models of their own and get no ids here. The operator's aliases win over these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_IDS: dict[str, tuple[str, ...]] = {
    "llama-4-scout-17b-16e-instruct": (
        "@cf/meta/llama-4-scout-17b-16e-instruct",  # Workers AI
        "meta/llama-4-scout-17b-16e-instruct",  # Dataoorts
        "meta-llama/llama-4-scout",  # OpenRouter
        "meta-llama/Llama-4-Scout-17B-16E",  # in examples written for OpenRouter
        "meta-llama/Llama-4-Scout-17B-16E-Instruct",  # Hugging Face
    ),
    "llama-4-maverick-17b-128e-instruct": (
        "meta-llama/llama-4-maverick",
        "meta-llama/Llama-4-Maverick-17B-128E-Instruct",
    ),
    "llama-guard-4-12b": ("meta-llama/llama-guard-4-12b", "meta-llama/Llama-Guard-4-12B"),
}
# What packers put behind a model's name: formats, widths, parts of split files.
_PACKING = re.compile(
    r"(-(gguf|original|ud|[it]?q\d(-\w{1,3})*|mxfp4|nvfp4|bf16|f16|f32|fp8|fp8-dynamic|int[48]|awq|gptq"
    r"|w4a16|quantized\.w4a16|bnb-4bit|\d{5}-of-\d{5}))*"
)


def known_ids(name: str) -> tuple[str, ...]:
    """Give the ids that hosted services have for the model of this name."""
    return _IDS.get(recognised(name, _IDS) or "", ())


def recognised(name: str, models: Iterable[str]) -> str | None:
    """Give which of some models a name stands for, whoever packed or hosts it; None: another."""
    last = re.sub(r"[\s_]+", "-", name.strip().rpartition("/")[2].lower())
    for model in models:
        if name in _IDS.get(model, ()):
            return model
        if last.startswith(model) and _PACKING.fullmatch(last, len(model)):
            return model
    return None
