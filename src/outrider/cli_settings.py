"""What every command shares: flags made from the settings table, progress bars, error lines.

A command that takes settings is decorated with `with_settings`; its flags come from the rows of
`SETTINGS` and it receives them merged with environment and file. Values are checked by
`config.load` alone, so that a wrong flag and a wrong variable are refused in the same words.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import typer

from outrider.config import Configuration, load
from outrider.settings import ENGINE_SETTINGS, SERVER_SETTINGS, STORE_SETTINGS, Setting

if TYPE_CHECKING:
    from outrider.checkpoints.progress import Progress

Command = Callable[..., None]

_PANELS = {
    row.name: panel
    for panel, rows in (
        ("Engine", ENGINE_SETTINGS),
        ("Server", SERVER_SETTINGS),
        ("Models", STORE_SETTINGS),
    )
    for row in rows
}


def with_settings(*rows: Setting) -> Callable[[Command], Command]:
    """Give a command a flag for every row, and --config; it gets `settings: Configuration`."""

    def decorate(command: Command) -> Command:
        own = [p for p in inspect.signature(command).parameters.values() if p.name != "settings"]
        names = [row.name for row in rows]

        @functools.wraps(command)
        def run(**arguments: Any) -> None:  # noqa: ANN401 - the signature is the one below
            flags = {name: arguments.pop(name) for name in names}
            file: Path | None = arguments.pop("config")
            command(**arguments, settings=load(flags, file=file))

        hints = inspect.get_annotations(command, eval_str=True)
        made = [_flag(row) for row in rows] + [_CONFIG]
        parameters = [p.replace(kind=p.KEYWORD_ONLY, annotation=hints[p.name]) for p in own] + made
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def _flag(row: Setting) -> inspect.Parameter:
    """Make the option of one row; None means that it was not given.

    What is off by default is turned on by its flag alone.
    """
    is_switch, is_list = isinstance(row.default, bool), isinstance(row.default, tuple)
    kind: object = list[str] if is_list else bool if row.default is False else str
    accepted = f" ({', '.join(row.choices)})" if row.choices else ""
    option = typer.Option(
        None,
        row.flag,
        help=f"{row.help}{accepted}. [dim]\\[default: {row.default_text}][/dim]",
        rich_help_panel=_PANELS[row.name],
        show_default=False,
        # Short metavars leave room for the help in a terminal of 80 columns.
        metavar=""
        if row.default is False
        else "true|false"
        if is_switch
        else row.item or ("N" if isinstance(row.default, int) else "TEXT"),
    )
    return inspect.Parameter(
        row.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=option,
        annotation=Optional[kind],  # noqa: UP045 - read by typer
    )


_CONFIG = inspect.Parameter(
    "config",
    inspect.Parameter.KEYWORD_ONLY,
    default=typer.Option(
        None,
        "--config",
        help="TOML file of settings. [dim]\\[default: outrider.toml in this folder, if any][/dim]",
        rich_help_panel="Models",
        show_default=False,
        metavar="FILE",
    ),
    annotation=Optional[Path],  # noqa: UP045 - read by typer
)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show progress on stderr while the block runs; nothing appears if nothing is reported."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TimeRemainingColumn(compact=True),
        console=console,
        disable=not console.is_terminal,
    )
    tasks: dict[str, TaskID] = {}

    def report(done: int, total: int, text: str) -> None:
        if text not in tasks:
            tasks[text] = bar.add_task(text)
            if not console.is_terminal:
                say(f"{text} …")
            bar.start()
        bar.update(tasks[text], completed=done, total=total or None)

    try:
        yield report
    finally:
        bar.stop()


def say(text: str) -> None:
    """Write one line for the person on stderr; stdout is for results."""
    print(text, file=sys.stderr, flush=True)


def engine_flags(settings: Configuration) -> dict[str, Any]:
    """Give the engine's settings as keywords for `LLM`, without the model's name."""
    import msgspec

    values = msgspec.structs.asdict(settings.engine)
    del values["model"]
    return values


def as_bytes(num_bytes: int) -> str:
    """Write a size for people, as in "93.4 MiB"."""
    value = float(num_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} B" if unit == "B" else f"{value:,.1f} {unit}"
