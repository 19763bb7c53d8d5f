"""Loads the tokenizers that count prompts for remote hosts, from pulled models.

Only the tokenizer and the chat format of a model are read, and only if the settings name one.
"""

from __future__ import annotations

from pathlib import Path

from outrider.checkpoints.packed import open_outline
from outrider.checkpoints.store import Store
from outrider.errors import ConfigError
from outrider.gateway.token_counter import TokenCounter
from outrider.text.chat import chat_format
from outrider.text.prompt import PromptEncoder
from outrider.text.tokenizer import Tokenizer


def load_counter(name: str, home: Path) -> TokenCounter:
    """Make the counter of a pulled model's tokens; raises `ConfigError` if it has no tokenizer."""
    outline = open_outline(Store(home).resolve(name))
    text = outline.tokenizer_json()
    if not text:
        raise ConfigError(f"tokenizer: the model {name} came without one; name another")
    form = chat_format(outline.chat_format, outline.default_system)
    return TokenCounter(PromptEncoder(Tokenizer(text), form, None))
