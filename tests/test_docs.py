"""The documents say what is there: settings, errors, routes, and examples that are run.

Examples are taken from the pages as they stand. Those with a server run against a real one, with
the port of the page replaced by a free one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from starlette.routing import Route

from outrider import config, errors
from outrider.config import ServerConfig
from outrider.dialects import openai, openrouter
from outrider.dialects.base import Dialect
from outrider.dialects.cloudflare import WorkersAi
from outrider.dialects.dataoorts import Dataoorts
from outrider.gateway.catalogue import Catalogue
from outrider.gateway.hosts import embedding_endpoints, remote_endpoints
from outrider.gateway.remote_hosts import RemoteHosts
from outrider.server.app import build_app
from outrider.settings import (
    DEFAULT_MODEL,
    ENGINE_SETTINGS,
    SERVER_SETTINGS,
    SETTINGS,
    STORE_SETTINGS,
    Setting,
)

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
WIRE_PAGES = [path.relative_to(ROOT).as_posix() for path in sorted(DOCS.glob("wires/*.md"))]
WIRES: dict[str, Dialect] = {
    "dataoorts": Dataoorts(),
    "openai": openai.CHAT_COMPLETIONS,
    "openrouter": openrouter.CHAT_COMPLETIONS,
    "workers-ai": WorkersAi(),
}
# As the pages of the wires start it: other services' names stand for the default model.
ALIASES = [
    f"--alias={name}={DEFAULT_MODEL}"
    for name in (
        "@cf/meta/llama-4-scout-17b-16e-instruct",
        "meta/llama-4-scout-17b-16e-instruct",
    )
]
HAS_MINI_RACER = find_spec("py_mini_racer") is not None
PAGE_ADDRESS = "http://127.0.0.1:8000"


def page_name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, language: str) -> list[str]:
    """Give the code blocks of a page that are marked with a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)


def settings_rows(rows: tuple[Setting, ...]) -> list[str]:
    """Write the rows that docs/settings.md has for some settings."""
    lines = []
    for row in rows:
        lines.append(
            f"| `{row.name}` | `{row.flag}` | `{row.variable}` | `{row.default_text}` "
            f"| {row.accepted} | {row.help} |"
        )
    return lines


@pytest.mark.parametrize(
    "rows", [ENGINE_SETTINGS, SERVER_SETTINGS, STORE_SETTINGS], ids=["engine", "server", "store"]
)
def test_every_setting_is_documented_as_it_is(rows: tuple[Setting, ...]) -> None:
    assert "\n".join(settings_rows(rows)) in (DOCS / "settings.md").read_text()


def test_no_other_setting_is_documented() -> None:
    documented = re.findall(r"^\| `(\w+)` \| `--", (DOCS / "settings.md").read_text(), re.MULTILINE)
    assert documented == [row.name for row in SETTINGS]


def error_classes(base: type[errors.OutriderError]) -> Iterator[type[errors.OutriderError]]:
    yield base
    for child in base.__subclasses__():
        yield from error_classes(child)


def test_every_error_is_documented_with_code_and_status() -> None:
    text = (DOCS / "errors.md").read_text()
    for error in error_classes(errors.OutriderError):
        status = "–" if issubclass(error, errors.ConfigError) else error.status
        retryable = "yes" if error.retryable else "no"
        row = f"| `{error.__name__}` | `{error.code}` | {status} | {retryable} |"
        assert row in text, row


def test_every_route_is_documented() -> None:
    app = build_app(ServerConfig(), Catalogue([]))
    text = (DOCS / "api.md").read_text()
    for route in app.routes:
        assert isinstance(route, Route)
        path = re.sub(r":\w+\}", "}", route.path)
        for method in (route.methods or set()) - {"HEAD"}:
            assert f"| {method} | `{path}` |" in text, f"{method} {path}"


@pytest.mark.parametrize("path", PAGES, ids=page_name)
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{page_name(path)} links to {target}"


@pytest.mark.parametrize("path", sorted((DOCS / "decisions").glob("*.md")), ids=page_name)
def test_a_decision_says_what_why_and_when_on_one_page(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 60
    assert re.search(r"^\d{4}-\d{2}-\d{2}$", text, re.MULTILINE)
    for heading in ("Context", "Choice", "Rejected"):
        assert f"## {heading}" in text


def test_the_architecture_fits_on_two_pages() -> None:
    assert len((ROOT / "ARCHITECTURE.md").read_text().splitlines()) <= 130


def test_the_commands_of_the_make_file_are_those_of_the_documents() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in PAGES:
        used = set(re.findall(r"^make ([\w-]+)|`make ([\w-]+)", path.read_text(), re.MULTILINE))
        for target in {name for pair in used for name in pair if name}:
            assert target in targets, f"{page_name(path)} names make {target}"


def test_the_first_minute_of_the_readme_is_two_commands() -> None:
    commands = blocks(ROOT / "README.md", "sh")
    assert commands[0] == "make serve\n"
    assert commands[1].startswith(f"curl -sN {PAGE_ADDRESS}/v1/chat/completions ")
    assert commands[2] == "make test\n"


@pytest.fixture(scope="module")
def address(model_path: Path, embedding_model_path: Path) -> Iterator[str]:
    """The server that `make serve` starts once all is installed and pulled, on a free port."""
    del model_path, embedding_model_path
    serve = re.search(r"exec \$\(BIN\)/outrider (serve) ", (ROOT / "Makefile").read_text())
    assert serve
    command = [sys.executable, "-m", "outrider", serve[1], "--port", "0", *ALIASES]
    command += ["--functions"] if HAS_MINI_RACER else []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if match := re.search(r"on (http://[\d.]+:\d+);", line):
                yield match[1]
                break
        else:
            pytest.fail(f"the server ended with code {process.wait()}")
        process.terminate()


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an `outrider` that is the one under test, for the PATH of examples."""
    folder = tmp_path_factory.mktemp("bin")
    script = folder / "outrider"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m outrider "$@"\n')
    script.chmod(0o755)
    return folder


def run_shell(command: str, address: str, bin_folder: Path) -> str:
    result = subprocess.run(
        ["/bin/sh", "-ec", command.replace(PAGE_ADDRESS, address)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}"},
    )
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.mark.real_model
def test_the_first_minute_of_the_readme_streams_text(address: str, bin_folder: Path) -> None:
    answer = run_shell(blocks(ROOT / "README.md", "sh")[1], address, bin_folder)
    events = [line for line in answer.splitlines() if line.startswith("data: ")]
    assert events[-1] == "data: [DONE]"
    text = "".join(re.findall(r'"content":"((?:[^"\\]|\\.)*)"', answer))
    assert len(events) > 5
    assert len(text) > 10


def examples(language: str, *names: str) -> list[object]:
    return [
        pytest.param(block, id=f"{name}-{number}")
        for name in names
        for number, block in enumerate(blocks(ROOT / name, language))
    ]


def wire_examples(language: str) -> list[object]:
    return [
        pytest.param(dialect, block, id=f"{name}-{number}")
        for name, dialect in WIRES.items()
        for number, block in enumerate(blocks(DOCS / "wires" / f"{name}.md", language))
    ]


def test_every_wire_with_a_page_has_its_examples_read() -> None:
    assert [f"docs/wires/{name}.md" for name in sorted(WIRES)] == WIRE_PAGES


@pytest.mark.parametrize(("dialect", "example"), wire_examples("json"))
def test_the_answers_of_the_pages_are_what_their_wire_reads(dialect: Dialect, example: str) -> None:
    body = example.encode()
    if b'"error' in body and b'"errors":[]' not in body:
        assert "unreadable" not in dialect.decode_error(500, body).message
    else:
        assert dialect.decode_answer(body).choices


@pytest.mark.parametrize(("dialect", "example"), wire_examples("sse"))
def test_the_streams_of_the_pages_are_what_their_wire_reads(dialect: Dialect, example: str) -> None:
    if "[DONE]" in example:
        assert len(dialect.decode_stream(example.encode())) > 2
    else:
        with pytest.raises((errors.EngineFailed, errors.ProviderError)):
            dialect.decode_stream(example.encode())


@pytest.mark.parametrize(
    "example", examples("toml", "docs/providers.md", "docs/settings.md", "docs/embeddings.md")
)
def test_settings_files_of_the_pages_are_read_and_served(example: str, tmp_path: Path) -> None:
    path = tmp_path / "outrider.toml"
    path.write_text(example)
    variables = dict.fromkeys(re.findall(r'api_key_env = "(\w+)"', example), "sk-key")
    settings = config.load({}, variables, path)
    remote = [one for one in settings.providers if one.name != "local"]
    assert settings.file.values or remote
    hosts = RemoteHosts()
    endpoints = remote_endpoints(settings.providers, hosts.build)
    endpoints += embedding_endpoints(settings.providers, hosts.build_embedder)
    assert len(endpoints) == sum(len(provider.models) for provider in remote)


@pytest.mark.real_model
@pytest.mark.parametrize(
    "example",
    examples(
        "sh",
        *("docs/administration.md", "docs/cli.md", "docs/keys.md", "docs/batches.md"),
        "docs/conversations.md",
        "docs/statistics.md",
        "docs/model-pages.md",
        *WIRE_PAGES,
    ),
)
def test_shell_examples_run(example: str, address: str, bin_folder: Path) -> None:
    if '"functions"' in example and not HAS_MINI_RACER:
        pytest.skip("mini-racer isn't installed: outrider[functions]")
    assert run_shell(example, address, bin_folder).strip()


@pytest.mark.real_model
@pytest.mark.parametrize(
    "example",
    examples(
        "python",
        *("README.md", "docs/library.md", "docs/api.md", "docs/embeddings.md", "docs/batches.md"),
        *WIRE_PAGES,
    ),
)
def test_python_examples_run(example: str, address: str) -> None:
    result = subprocess.run(
        [sys.executable, "-"],
        input=example.replace(PAGE_ADDRESS, address),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, f"{example}\n{result.stdout}\n{result.stderr}"
    assert result.stdout.strip()
