"""The clients for Node: each of the files *.test.mjs is run against the same live servers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import material
import pytest

from conftest import CF_CHAT, CF_EMBEDDINGS, HERE, Server, serving

NODE = shutil.which("node")
TESTS = sorted(path.name for path in HERE.glob("*.test.mjs"))
LIMIT_S = 120

pytestmark = pytest.mark.skipif(
    not (NODE and (HERE / "node_modules").exists()),
    reason="no Node 20 or newer with the packages of tests/clients/package.json",
)


@pytest.fixture(scope="module")
def flat(python: str) -> Iterator[Server]:
    """A server whose tool calls on Workers AI's wire are flat, for @cloudflare/ai-utils."""
    model = "smollm2-135m-instruct"
    options = [model, f"--alias={CF_CHAT}={model}", "--embedding-model=none"]
    with serving(python, *options, "--workers-ai-tool-calls=flat") as url:
        yield Server(url, model)


@pytest.fixture(scope="module")
def material_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("node") / "material.json"
    names = {name: value for name, value in vars(material).items() if name.isupper()}
    names |= {"CF_CHAT": CF_CHAT, "CF_EMBEDDINGS": CF_EMBEDDINGS}
    path.write_text(json.dumps(names))
    return path


@pytest.mark.parametrize("name", TESTS)
def test_a_client_for_node_works(
    name: str, words: Server, eyes: Server, flat: Server, material_path: Path
) -> None:
    servers = {"OUTRIDER_WORDS": words, "OUTRIDER_EYES": eyes, "OUTRIDER_FLAT": flat}
    result = subprocess.run(
        [str(NODE), "--test", "--test-reporter=spec", name],
        cwd=HERE,
        env={
            **os.environ,
            **{key: json.dumps(asdict(server)) for key, server in servers.items()},
            "OUTRIDER_MATERIAL": str(material_path),
        },
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert result.returncode == 0, result.stdout + result.stderr
