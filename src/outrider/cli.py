"""The `outrider` command: lists the subcommands; each lives in a file beside this one.

Heavy modules are imported inside the commands that need them, so that --help is immediate.
"""

from __future__ import annotations

from typing import Annotated

import typer

from outrider import (
    __version__,
    cli_bench,
    cli_chat,
    cli_embed,
    cli_inspect,
    cli_keys,
    cli_models,
    cli_providers,
    cli_serve,
)

app = typer.Typer(
    name="outrider",
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Start with [bold]outrider pull smollm2-135m-instruct[/bold] and "
    "[bold]outrider serve[/bold].",
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"outrider {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Run Llama models on this machine and serve them to OpenAI clients."""
    del version


_SERVING, _TALKING, _MODELS = "Serve", "Talk", "Models"

app.command(rich_help_panel=_SERVING)(cli_serve.serve)
app.add_typer(cli_keys.app, name="keys", rich_help_panel=_SERVING)
app.add_typer(cli_providers.app, name="providers", rich_help_panel=_SERVING)
app.command(rich_help_panel=_TALKING)(cli_chat.chat)
app.command(rich_help_panel=_TALKING)(cli_chat.generate)
app.command(rich_help_panel=_TALKING)(cli_embed.embed)
app.command(rich_help_panel=_MODELS)(cli_models.pull)
app.command(rich_help_panel=_MODELS)(cli_models.models)
app.command(rich_help_panel=_MODELS)(cli_models.rm)
app.command(rich_help_panel=_MODELS)(cli_inspect.inspect)
app.command(rich_help_panel=_MODELS)(cli_bench.bench)
