"""Special tokens that the files of a Hugging Face folder name by id.

transformers loads a model whose ids are outside its vocabulary, as the defaults of a cut-down
config are, and never meets them. Here they are left out with a warning that names the file; what
isn't a number at all is refused with the config.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from outrider.checkpoints.excerpt import excerpt
from outrider.checkpoints.hf_fields import Json
from outrider.checkpoints.hf_llama4_config import text_config
from outrider.checkpoints.model_files import read_json


class NamedIds(NamedTuple):
    """What one file says: the ids under a name of its own."""

    file: Path
    name: str
    token_ids: list[Any]


def end_ids(folder: Path, config: Json) -> list[NamedIds]:
    """Give the ids that end an answer by the folder's files; any of them may be wrong."""
    file, generation_file = folder / "config.json", folder / "generation_config.json"
    ids = [*_listed(text_config(config)), *_listed(config)]
    generation = read_json(generation_file) if generation_file.is_file() else {}
    return [
        NamedIds(file, "eos_token_id", list(dict.fromkeys(ids))),
        NamedIds(generation_file, "eos_token_id", _listed(generation)),
    ]


def bos_ids(folder: Path, config: Json) -> NamedIds:
    """Give the id that begins a text by config.json, if it names one."""
    token_id = text_config(config).get("bos_token_id", config.get("bos_token_id"))
    return NamedIds(folder / "config.json", "bos_token_id", [] if token_id is None else [token_id])


def known_ids(named: list[NamedIds], vocab_size: int) -> tuple[list[Any], list[str]]:
    """Give the ids that are in the vocabulary or no numbers, and a warning for each file's rest."""
    kept: list[Any] = []
    warnings = []
    for file, name, token_ids in named:
        outside = [token_id for token_id in token_ids if _is_outside(token_id, vocab_size)]
        kept += [token_id for token_id in token_ids if not _is_outside(token_id, vocab_size)]
        if outside:
            ids = excerpt(", ".join(map(str, outside)))
            warnings.append(
                f"{file}: {name} {ids} is outside the vocabulary of {vocab_size} and is ignored"
            )
    return list(dict.fromkeys(kept)), warnings


def _is_outside(token_id: object, vocab_size: int) -> bool:
    return type(token_id) is int and not 0 <= token_id < vocab_size


def _listed(config: Json) -> list[Any]:
    value = config.get("eos_token_id")
    values = value if isinstance(value, list) else [] if value is None else [value]
    # Anything but a number or a string is refused by its text: it might not even be hashable.
    return [item if isinstance(item, int | str) else repr(item) for item in values]
