"""`outrider serve`: checks model, packed weights and memory, then runs the HTTP server."""

from __future__ import annotations

import logging
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from outrider.cli_log import LineWriter
from outrider.cli_settings import progress_bar, with_settings
from outrider.config import Configuration, changed
from outrider.machine import ask_for_files
from outrider.settings import NO_MODEL, SETTINGS

if TYPE_CHECKING:
    from pathlib import Path

    from outrider.checkpoints.packed_format import Header

logger = logging.getLogger(__name__)

OTHER_FILES = 128  # of the database, the journal, the engine and their like

ModelName = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL", help="The same as --model, and wins over it.", show_default=False
    ),
]


@with_settings(*SETTINGS)
def serve(
    settings: Configuration,
    name: ModelName = None,
) -> None:
    """Serve a model to OpenAI and Workers AI clients until Ctrl-C or SIGTERM.

    The model none serves the providers of outrider.toml alone, without an
    engine until one is loaded at /admin; SIGHUP reads them again.

    The flag --max-num-seqs is also the variable OUTRIDER_MAX_NUM_SEQS and
    the key max_num_seqs of outrider.toml; flags win over variables,
    variables over the file.
    """
    settings = choose_model(settings, name)
    _set_up_logging(settings.server.log_level)
    packed_path = None if settings.engine.model == NO_MODEL else prepare(settings)[0]

    from outrider.server.run import serve as run_server

    given = ", ".join(f"{key} = {value!r}" for key, value in changed(settings).items())
    logger.info("settings: %s", given or "all defaults")
    _make_room(settings.server.max_connections)
    run_server(settings, packed_path, announce)


def _make_room(max_connections: int) -> None:
    """Ask for the files that every connection and the host behind it need."""
    wanted = 2 * max_connections + OTHER_FILES
    if (allowed := ask_for_files(wanted)) < wanted:
        logger.warning(
            "this process may open %d files, too few for %d connections and the hosts behind them; "
            "raise the limit (ulimit -n) or lower --max-connections",
            allowed,
            max_connections,
        )


def announce(address: str, model: str | None) -> None:
    """Print where the server listens and a line to try."""
    if model is None:
        print(f"\nOutrider listens on {address} without a model; Ctrl-C stops it.\n")
        print(f"  {address}/admin pulls and loads one.\n", flush=True)
        return
    body = (
        f'{{"model": "{model}", "stream": true, '
        '"messages": [{"role": "user", "content": "Why is the sky blue?"}]}'
    )
    print(f"\nOutrider serves {model} on {address}; Ctrl-C stops it. Try it:\n")
    print(
        f"  curl -N {address}/v1/chat/completions -H 'content-type: application/json' "
        f"-d {shlex.quote(body)}\n",
        flush=True,
    )


def choose_model(settings: Configuration, name: str | None) -> Configuration:
    """Put a model named as an argument into the settings."""
    import msgspec

    if name is None:
        return settings
    return settings._replace(engine=msgspec.structs.replace(settings.engine, model=name))


def prepare(settings: Configuration) -> tuple[Path, Header]:
    """Find the model, pack its weights if needed and refuse it if memory is too little.

    Gives the packed file and its header.
    """
    from outrider.server.preparing import prepare as prepare_model

    with progress_bar() as progress:
        return prepare_model(settings.engine, settings.home, progress)


def _set_up_logging(level: str) -> None:
    logging.basicConfig(level=level.upper(), handlers=[LineWriter()])
    # No line shows these, and each record would look them up.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # The server says the same in its own words; of others only what is wrong matters.
    for name in ("uvicorn", "asyncio", "alembic.runtime.plugins"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
