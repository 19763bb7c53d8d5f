"""Entry point of `outrider` and `python -m outrider`: runs a command and words its failure.

Whatever an operator can change ends as one line on stderr and exit code 2, never a traceback.
"""

from __future__ import annotations

import os
import sys

EXIT_ERROR = 2
EXIT_READER_GONE = 1
EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command line; gives the exit code."""
    import typer

    from outrider.cli import app
    from outrider.errors import OutriderError

    # typer has no public name for the base of its usage errors.
    usage_error: type[Exception] = typer.BadParameter.__bases__[0]
    try:
        code = app(arguments or ["--help"], prog_name="outrider", standalone_mode=False)
        sys.stdout.flush()
    except OutriderError as error:
        return _fail(error.message)
    except usage_error as error:
        return _fail(_usage(error))
    except BrokenPipeError:
        # The reader of our output is gone; keep Python from writing to it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_READER_GONE
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        return _fail(f"{name}{error.strerror or error}")
    except MemoryError:
        return _fail("out of memory; choose smaller --weights or lower --kv-memory-mib")
    except (typer.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    return code if isinstance(code, int) else 0


def _usage(error: BaseException) -> str:
    """Word a usage error of typer: what is wrong, and which --help says more."""
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    command = getattr(context, "command_path", "outrider")
    return f"{message[:1].lower()}{message[1:].rstrip('.')}; see {command} --help"


def _fail(message: str) -> int:
    sys.stderr.write(f"outrider: {' '.join(message.split())}\n")
    return EXIT_ERROR


if __name__ == "__main__":
    main()
