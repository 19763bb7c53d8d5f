"""What the store has, as administration shows it; nothing here fetches or loads a model."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from outrider.checkpoints.known_models import KNOWN_MODELS
from outrider.checkpoints.store import Store
from outrider.errors import InvalidRequest, StoreError
from outrider.settings import DEFAULT_EMBEDDING_MODEL as EMBEDDER

_QUANT = re.compile(r"[.-](I?Q\d\w*|BF16|F16|F32)\b", re.IGNORECASE)


@dataclass(frozen=True)
class ModelOnDisk:
    """A model that is here, or could be by its short name."""

    name: str
    is_here: bool
    num_bytes: int
    packed_bytes: int
    licence: str
    form: str  # such as GGUF Q4_1; empty: not known before it is here
    is_embedding: bool


class ModelStore:
    """The models below one home folder."""

    def __init__(self, home: Path) -> None:
        self._store = Store(home)

    def models(self) -> list[ModelOnDisk]:
        """List what is here, then what could be pulled by a short name."""
        here = [
            ModelOnDisk(
                one.name, True, one.nbytes, one.packed_nbytes, one.licence, *_form(one.path)
            )
            for one in self._store.models()
        ]
        names = {one.name for one in here}
        missing = [
            ModelOnDisk(name, False, known.nbytes, 0, known.licence, "", name == EMBEDDER)
            for name, known in KNOWN_MODELS.items()
            if name not in names
        ]
        return here + missing

    def check_name(self, name: str) -> None:
        """Refuse what can't be the name of a model to pull; raises `InvalidRequest`."""
        try:
            self._store.check_name(name)
        except StoreError as error:
            raise InvalidRequest(error.message, "model") from error

    def find(self, name: str) -> ModelOnDisk:
        """Give a model that is here; raises `InvalidRequest`."""
        for one in self.models():
            if one.name == name and one.is_here:
                return one
        shown = "".join(c if c.isprintable() else "?" for c in name[:200])
        raise InvalidRequest(f"{shown} isn't here; pull it first", "model")

    def remove(self, name: str) -> None:
        """Delete a model; raises `StoreError`."""
        self._store.remove(name)

    def free_bytes(self) -> int | None:
        """Give the space that is left for models; None if that is unknown."""
        folder = self._store.home
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        try:
            return shutil.disk_usage(folder).free
        except OSError:
            return None


def _form(path: Path) -> tuple[str, bool]:
    """Give the form of a model's files, and whether they make embeddings."""
    if path.is_file():
        found = _QUANT.search(path.stem)
        return f"GGUF {found[1].upper()}" if found else "GGUF", False
    try:
        config = json.loads((path / "config.json").read_bytes())
    except (OSError, ValueError):
        return "safetensors", False
    kind = config.get("model_type") if isinstance(config, dict) else None
    dtype = config.get("torch_dtype") if isinstance(config, dict) else None
    form = f"safetensors {dtype}" if isinstance(dtype, str) and dtype.isalnum() else "safetensors"
    return form, kind == "bert"
