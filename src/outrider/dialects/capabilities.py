"""What a model at a host can do: the words of outrider.toml, and OpenRouter's names of parameters.

A capability is one word for all the parameters that come with it. Each kind of host has those that
its wire can carry, and those that its hosts have unless the file says otherwise. A model that makes
embeddings does nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

Kind = Literal["local", "openai", "openrouter", "workers-ai", "dataoorts"]
Capability = Literal[
    "embeddings", "frequency_penalty", "images", "json", "json_schema", "logit_bias", "logprobs",
    "min_p", "n", "prediction", "presence_penalty", "repetition_penalty", "seed", "stop",
    "temperature", "tools", "top_a", "top_k", "top_p",
]  # fmt: skip

EMBEDDINGS: Final = "embeddings"
# Names are those of OpenRouter's catalogue; a capability that isn't here is a parameter's name.
_PARAMETERS: dict[Capability, tuple[str, ...]] = {
    "embeddings": (),  # their own stand below
    "images": (),
    "n": (),  # OpenRouter has no name for several choices
    "json": ("response_format",),
    "json_schema": ("response_format", "structured_outputs"),
    "logprobs": ("logprobs", "top_logprobs"),
    "tools": ("tools", "tool_choice", "parallel_tool_calls"),
}
_ALWAYS = ("max_tokens", "max_completion_tokens")
_PENALTIES: frozenset[Capability] = frozenset(
    ("frequency_penalty", "presence_penalty", "repetition_penalty")
)
_EVERYWHERE: frozenset[Capability] = _PENALTIES | {"temperature", "top_p", "top_k", "seed"}
_WORKERS_AI: frozenset[Capability] = _EVERYWHERE | {"json", "json_schema", "tools"}
_OPENAI: frozenset[Capability] = _WORKERS_AI | {"logit_bias", "logprobs", "min_p", "n", "stop"}
_ALL: frozenset[Capability] = _OPENAI | {"images", "prediction", "top_a"}
_VECTORS: frozenset[Capability] = frozenset({EMBEDDINGS})

# By kind of host: what its wire can carry.
CAPABILITIES: dict[Kind, frozenset[Capability]] = {
    "local": _ALL,
    "openai": _ALL | _VECTORS,
    "openrouter": _ALL | _VECTORS,
    "workers-ai": _WORKERS_AI | _VECTORS | {"images", "stop"},
    "dataoorts": _WORKERS_AI | {"images", "stop"},
}
# By kind of host: what is taken for granted.
DEFAULT_CAPABILITIES: dict[Kind, frozenset[Capability]] = {
    "local": _ALL,
    "openai": _OPENAI,
    "openrouter": _OPENAI - {"n"},
    "workers-ai": _WORKERS_AI,
    "dataoorts": _EVERYWHERE,
}
# By kind of host: the parameters that requests for embeddings may have.
EMBEDDING_PARAMETERS: dict[Kind, frozenset[str]] = {
    "openai": frozenset({"dimensions"}),
    "openrouter": frozenset({"dimensions"}),
    "workers-ai": frozenset(),
}


def supported_parameters(capabilities: Iterable[Capability]) -> frozenset[str]:
    """Give OpenRouter's names of the parameters that come with some capabilities."""
    named = (_PARAMETERS.get(word, (word,)) for word in capabilities)
    return frozenset(name for names in (_ALWAYS, *named) for name in names)
