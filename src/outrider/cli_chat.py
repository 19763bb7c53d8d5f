"""`outrider chat` and `outrider generate`: a model in this process, answering in the terminal.

Answers go to stdout as they are made, everything else to stderr, so both commands work in pipes.
While an answer is made, Ctrl-C only sets a flag: the engine is never interrupted inside a step.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outrider.cli_sampling import MaxTokens, Sampling, Seed, parse_sampling
from outrider.cli_serve import ModelName, choose_model, prepare
from outrider.cli_settings import engine_flags, say, with_settings
from outrider.config import Configuration
from outrider.errors import ConfigError, RequestError
from outrider.settings import ENGINE_SETTINGS, STORE_SETTINGS

if TYPE_CHECKING:
    from outrider.llm import LLM
    from outrider.types import ImagePart, Message, SamplingParams

_HELP = (
    "/image PATH shows an image with the next message · /reset forgets the conversation · "
    "/system TEXT sets the system prompt · /exit leaves"
)


@with_settings(*ENGINE_SETTINGS, *STORE_SETTINGS)
def chat(
    settings: Configuration,
    name: ModelName = None,
    system: Annotated[str, typer.Option(help="System prompt.")] = "",
    max_tokens: MaxTokens = None,
    sampling: Sampling = None,
    seed: Seed = None,
) -> None:
    """Talk with a model; Ctrl-C stops an answer, Ctrl-D leaves.

    Lines that begin with a slash are commands: /image PATH, /reset, /system TEXT, /exit.
    """
    parse_sampling(sampling, {}, max_tokens, seed)  # refuses what is wrong before the model loads
    llm, defaults = _load(choose_model(settings, name))
    session = Session(llm, parse_sampling(sampling, defaults, max_tokens, seed), system)
    if sys.stdin.isatty():
        say(f"{_HELP} · Ctrl-C stops an answer")
    for line in _lines():
        text = line.strip()
        if text.startswith("/"):
            if not session.command(text):
                return
        elif text:
            session.answer(text)


@with_settings(*ENGINE_SETTINGS, *STORE_SETTINGS)
def generate(
    settings: Configuration,
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT", help="Text to continue; from stdin if absent.", show_default=False
        ),
    ] = None,
    max_tokens: MaxTokens = None,
    sampling: Sampling = None,
    seed: Seed = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all choices with token ids as JSON.")
    ] = False,
) -> None:
    """Continue a text, taken as it is; for a conversation use chat."""
    parse_sampling(sampling, {}, max_tokens, seed)
    if prompt is None:
        if sys.stdin.isatty():
            raise ConfigError("there is no prompt; give one as an argument or on stdin")
        prompt = sys.stdin.read()
    llm, defaults = _load(settings)
    params = parse_sampling(sampling, defaults, max_tokens, seed)
    if as_json:
        import msgspec

        completion = llm.generate(prompt, params)[0]
        print(msgspec.json.format(msgspec.json.encode(completion), indent=2).decode())
    elif params.n > 1:
        raise ConfigError(f"n is {params.n}; several choices need --json")
    else:
        with _interruptible() as interrupted:
            _print_stream(llm.stream(prompt, params), interrupted)


class Session:
    """One conversation: its history and what the commands do to it."""

    def __init__(self, llm: LLM, params: SamplingParams, system: str) -> None:
        self._llm = llm
        self._params = params
        self._system = system
        self._turns: list[Message] = []
        self._images: list[ImagePart] = []  # for the next message

    def command(self, text: str) -> bool:
        """Carry out a /command; False ends the session."""
        name, _, argument = text.partition(" ")
        if name == "/exit":
            return False
        if name == "/reset":
            self._turns.clear()
            self._images.clear()
            say("the conversation is forgotten")
        elif name == "/system":
            self._system = argument.strip()
            say("the system prompt is set" if self._system else "the system prompt is removed")
        elif name == "/image":
            self._show(argument.strip())
        else:
            say(f"unknown command {name}; {_HELP}")
        return True

    def answer(self, text: str) -> None:
        """Answer one message; an answer that was stopped stays in the history as far as it got."""
        from outrider.types import Message, TextPart

        system = [Message("system", self._system)] if self._system else []
        question = Message("user", (*self._images, TextPart(text)) if self._images else text)
        self._images.clear()
        try:
            with _interruptible() as interrupted:
                stream = self._llm.stream([*system, *self._turns, question], self._params)
                reply = _print_stream(stream, interrupted)
        except RequestError as error:
            # For example a conversation that outgrew the context: the session itself is fine.
            say(f"outrider: {error.message}; /reset starts a new conversation")
            return
        self._turns += [question, Message("assistant", reply)]

    def _show(self, name: str) -> None:
        from outrider.text.image_file import open_image
        from outrider.types import ImagePart

        try:
            data = Path(name).expanduser().read_bytes()
            width, height = open_image(data, name).size
        except OSError as error:
            say(f"outrider: {name or 'the image'} can't be read: {error.strerror}")
        except RequestError as error:
            say(f"outrider: {error.message}")
        else:
            self._images.append(ImagePart(data))
            say(f"the next message shows {name} ({width} x {height} pixels)")


def _load(settings: Configuration) -> tuple[LLM, dict[str, Any]]:
    """Load the model; gives it with its own sampling defaults."""
    _, header = prepare(settings)

    from outrider.llm import LLM

    return LLM(settings.engine.model, **engine_flags(settings)), dict(header.generation)


def _lines() -> Iterator[str]:
    """Give the lines that a person types, or those of a pipe."""
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    import readline  # noqa: F401 - gives input() its history and editing

    while True:
        try:
            yield input("> ")
        except EOFError:
            say("")
            return
        except KeyboardInterrupt:
            say("\n/exit or Ctrl-D leaves")


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """Collect SIGINT in a list instead of raising; a second one is collected as well."""
    caught: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    try:
        yield caught
    finally:
        signal.signal(signal.SIGINT, previous)


def _print_stream(stream: Generator[str, None, None], interrupted: list[int]) -> str:
    """Print the pieces of an answer as they come, until its end or Ctrl-C; gives the text."""
    pieces = []
    with closing(stream) as answer:
        for piece in answer:
            if interrupted:
                break
            pieces.append(piece)
            print(piece, end="", flush=True)
    print(flush=True)
    return "".join(pieces)
