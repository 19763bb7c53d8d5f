"""The library's embedding model: texts in, an array of vectors out, in this process.

It runs the same encoder as the server, on the caller's thread; use one from one thread. Whatever
can't be embedded raises an `OutriderError`; nothing is cut silently.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outrider import config
from outrider.checkpoints.bert_folder import find_encoder
from outrider.engine.embedder import Embedder
from outrider.engine.encoder_loader import FORMATS, load_encoder
from outrider.engine.loader import make_context
from outrider.engine.protocol import Embed
from outrider.errors import ConfigError, InvalidRequest
from outrider.model.config import Pooling
from outrider.settings import DEFAULT_EMBEDDING_MODEL
from outrider.text.embedding_tokenizer import EmbeddingTokenizer

_SETTINGS = ("threads", "isa", "home")


class EmbeddingModel:
    """One loaded embedding model.

    `name_or_path` is what `outrider pull` knows or a folder as sentence-transformers writes it;
    `weights` is auto (bf16), bf16 or f32. Further settings: `threads`, `isa`, `home`. Environment
    and outrider.toml count as they do for the server.
    """

    def __init__(
        self,
        name_or_path: str = DEFAULT_EMBEDDING_MODEL,
        weights: str = "auto",
        **settings: str | int,
    ) -> None:
        for name in settings:
            if name not in _SETTINGS:
                known = config.nearest(name, _SETTINGS)
                raise ConfigError(f"EmbeddingModel has no setting {name}{known}")
        if weights not in FORMATS:
            raise ConfigError(f"weights is {weights!r}; it must be one of {', '.join(FORMATS)}")
        engine = config.load(settings).engine
        folder = find_encoder(str(name_or_path), Path(engine.home))
        self.config = folder.config
        self._tokenizer = EmbeddingTokenizer(
            folder.tokenizer_json, self.config.max_model_len, self.config.vocab_size
        )
        self._embedder = Embedder(load_encoder(folder, make_context(engine), weights))
        self._numbers = itertools.count()

    def embed(
        self,
        texts: str | Iterable[str | Iterable[int]],
        dimensions: int | None = None,
        pooling: Pooling | None = None,
    ) -> NDArray[np.float32]:
        """Give the vectors [texts, dimensions] of texts, or of lists of token ids.

        One text gives an array of one row. Fewer dimensions than the model has are the first ones,
        scaled to length 1 again if the model's vectors are.
        """
        wanted = [texts] if isinstance(texts, str) else _read_texts(texts)
        if pooling not in (None, "mean", "cls"):
            raise InvalidRequest(f"pooling is {pooling!r}; it must be mean or cls", "pooling")
        if not wanted:
            return np.empty((0, dimensions or self.config.hidden_size), np.float32)
        encoded = self._tokenizer.encode(wanted, "texts")
        number = f"embed-{next(self._numbers)}"
        return self._embedder.embed(Embed(number, tuple(map(tuple, encoded)), pooling, dimensions))


def _read_texts(texts: object) -> list[str | list[int]]:
    if not isinstance(texts, Iterable):
        raise InvalidRequest(f"texts is {texts!r:.80}; give a text or a list of texts", "texts")
    wanted: list[str | list[int]] = []
    for index, text in enumerate(texts):
        if isinstance(text, str):
            wanted.append(text)
            continue
        token_ids = list(text) if isinstance(text, Iterable) else [None]
        numbers = [int(i) for i in token_ids if isinstance(i, int | np.integer)]
        if len(numbers) != len(token_ids):
            raise InvalidRequest("a text must be a string or token ids", f"texts[{index}]")
        wanted.append(numbers)
    return wanted
