"""Live servers for clients that know nothing of Outrider.

The clients live in an environment of their own; `--server-python` names the Python that has
Outrider. Two servers: `words` answers in words and makes embeddings, `eyes` is a random Llama 4
that sees.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ADDRESS = re.compile(r"on (http://127\.0\.0\.1:\d+);")
CF_CHAT = "@cf/meta/llama-4-scout-17b-16e-instruct"
CF_EMBEDDINGS = "@cf/baai/bge-small-en-v1.5"
PATIENCE_S = 60
POLL_S = 0.05


@dataclass(frozen=True)
class Server:
    """A server that is ready; it has one chat model and perhaps one for embeddings."""

    url: str
    model: str
    embedding_model: str = ""


def wait_for(ask: Callable[[], Any], is_done: Callable[[Any], bool]) -> Any:
    """Ask until the answer says that it is done."""
    end_s = time.monotonic() + PATIENCE_S
    while not is_done(answer := ask()):
        assert time.monotonic() < end_s, answer
        time.sleep(POLL_S)
    return answer


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--server-python", default=sys.executable, help="the Python with Outrider")


@pytest.fixture(scope="session")
def python(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--server-python"))


@contextmanager
def serving(python: str, *options: str) -> Iterator[str]:
    """Run `outrider serve` on a free port; gives its address."""
    command = [python, "-m", "outrider", "serve", "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            found = (ADDRESS.search(line) for line in process.stdout)
            address = next((match[1] for match in found if match), None)
            assert address, f"the server ended with code {process.wait(PATIENCE_S)}"
            yield address
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            finally:
                process.kill()


@pytest.fixture(scope="session")
def words(python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model, embedding_model = "smollm2-135m-instruct", "all-minilm-l6-v2"
    aliases = [f"--alias={CF_CHAT}={model}", f"--alias={CF_EMBEDDINGS}={embedding_model}"]
    folder = tmp_path_factory.mktemp("words")
    options = [model, f"--embedding-model={embedding_model}", f"--data-dir={folder}", *aliases]
    with serving(python, *options) as url:
        yield Server(url, model, embedding_model)


@pytest.fixture(scope="session")
def eyes(python: str) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "tiny-llama4"
        subprocess.run([python, HERE / "make_scout.py", model], check=True)
        options = [str(model), "--home", folder, "--weights=f32", f"--alias={CF_CHAT}={model.name}"]
        with serving(python, *options, "--embedding-model=none") as url:
            yield Server(url, model.name)
