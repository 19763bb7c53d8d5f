"""`outrider embed`: the vectors of texts, one JSON line each."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from outrider.cli_settings import with_settings
from outrider.config import Configuration
from outrider.errors import ConfigError
from outrider.settings import DEFAULT_EMBEDDING_MODEL, ENGINE_SETTINGS, STORE_SETTINGS

_ROWS = [row for row in ENGINE_SETTINGS if row.name in ("threads", "isa")]
LINES_AT_ONCE = 1024


@with_settings(*_ROWS, *STORE_SETTINGS)
def embed(
    settings: Configuration,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT...", help="Texts; lines of stdin if absent.", show_default=False
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="Embedding model: name, hf: name or folder.", metavar="TEXT")
    ] = DEFAULT_EMBEDDING_MODEL,
    dimensions: Annotated[
        int | None, typer.Option(help="Values per vector; all if absent.", metavar="N")
    ] = None,
) -> None:
    """Print the vector of every text as a JSON list on a line of its own."""
    if not texts and sys.stdin.isatty():
        raise ConfigError("there is no text; give some as arguments, or one per line on stdin")
    import msgspec

    from outrider.embedding_model import EmbeddingModel

    engine = settings.engine
    loaded = EmbeddingModel(model, threads=engine.threads, isa=engine.isa, home=engine.home)
    lines = texts or [line.rstrip("\n") for line in sys.stdin]
    for begin in range(0, len(lines), LINES_AT_ONCE):
        for vector in loaded.embed(lines[begin : begin + LINES_AT_ONCE], dimensions):
            print(msgspec.json.encode(vector.tolist()).decode())
