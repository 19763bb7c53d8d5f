"""Sampling parameters on the command line: --sampling NAME=VALUE, checked against the type.

The names and ranges are those of `SamplingParams`; nothing is listed a second time here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from outrider.config import nearest
from outrider.errors import ConfigError

if TYPE_CHECKING:
    from outrider.types import SamplingParams

MaxTokens = Annotated[
    int | None,
    typer.Option(help="Most tokens of an answer.", show_default="up to the end of the context"),
]
Seed = Annotated[int | None, typer.Option(help="Same seed and prompt: same text.")]
Sampling = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="A sampling parameter, as in temperature=0 or stop='[\"END\"]'; repeatable.",
    ),
]


def parse_sampling(
    assignments: list[str] | None,
    defaults: dict[str, Any],
    max_tokens: int | None = None,
    seed: int | None = None,
) -> SamplingParams:
    """Make the parameters from the flags; `defaults` are the model's own and give way."""
    import msgspec

    from outrider.types import SamplingParams

    values = dict(defaults)
    for assignment in assignments or []:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"--sampling is {assignment!r}; write it as NAME=VALUE")
        if name not in SamplingParams.__struct_fields__:
            hint = nearest(name, SamplingParams.__struct_fields__)
            raise ConfigError(f"unknown sampling parameter {name}{hint}")
        values[name] = _value(name, text)
    if max_tokens is not None:
        values["max_tokens"] = max_tokens
    if seed is not None:
        values["seed"] = seed
    try:
        return msgspec.convert(values, SamplingParams, strict=False)
    except msgspec.ValidationError as error:
        # msgspec says "Expected `float`, got `str` - at `$.name`".
        reason, _, path = str(error).replace("`", "").partition(" - at $.")
        shown = repr(values[path]) if path in values else "of the wrong type"
        raise ConfigError(f"--sampling {path} is {shown}; {reason.lower()}") from error


def _value(name: str, text: str) -> object:
    """Read a value as JSON, or as the text it is; one stop string needs no brackets."""
    import msgspec

    try:
        value: object = msgspec.json.decode(text)
    except msgspec.DecodeError:
        value = text
    if name == "stop" and not isinstance(value, list):
        return [text]
    return value
