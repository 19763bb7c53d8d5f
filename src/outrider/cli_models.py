"""The commands that manage models on disk: pull, models and rm."""

from __future__ import annotations

from typing import Annotated

import typer

from outrider.cli_settings import as_bytes, progress_bar, say, with_settings
from outrider.config import Configuration
from outrider.settings import DEFAULT_MODEL, STORE_SETTINGS

Name = Annotated[str, typer.Argument(help="Model name, or hf:OWNER/REPOSITORY.", metavar="NAME")]


@with_settings(*STORE_SETTINGS)
def pull(settings: Configuration, name: Name = DEFAULT_MODEL) -> None:
    """Fetch a model; what is already there is not fetched again.

    An interrupted pull continues where it stopped.
    """
    from outrider.checkpoints.store import Store

    with progress_bar() as progress:
        path = Store(settings.home).pull(name, progress)
    say(f"{name} is at {path}")


@with_settings(*STORE_SETTINGS)
def models(settings: Configuration) -> None:
    """List the pulled models and those that can be pulled by name."""
    from rich.console import Console
    from rich.table import Table

    from outrider.checkpoints.known_models import KNOWN_MODELS
    from outrider.checkpoints.store import Store

    table = Table("name", "size", "packed", "licence", "path", box=None, pad_edge=False)
    pulled = Store(settings.home).models()
    for model in pulled:
        packed = as_bytes(model.packed_nbytes) if model.packed_nbytes else ""
        table.add_row(model.name, as_bytes(model.nbytes), packed, model.licence, str(model.path))
    for known in KNOWN_MODELS.values():
        if known.name not in {model.name for model in pulled}:
            hint = f"not here; outrider pull {known.name}"
            table.add_row(known.name, as_bytes(known.nbytes), "", known.licence, hint)
    console = Console()
    # Paths are for copying: a pipe and a narrow terminal get them whole.
    console.print(table, soft_wrap=True)


@with_settings(*STORE_SETTINGS)
def rm(
    settings: Configuration,
    name: Annotated[str, typer.Argument(help="Name of a pulled model.", metavar="NAME")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
) -> None:
    """Remove a pulled model and its packed weights."""
    from outrider.checkpoints.store import Store

    if not yes and not typer.confirm(f"Remove {name} from {settings.home}?", err=True):
        raise typer.Exit(1)
    Store(settings.home).remove(name)
    say(f"removed {name}")
