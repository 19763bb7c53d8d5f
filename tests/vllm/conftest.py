"""The servers that the tests ask: vLLM, and Outrider in front of it.

`--vllm` names vLLM's command, which lives in an environment of its own, `--vllm-url` one that runs
already.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import openai
import pytest
from vllm_processes import (
    MODEL,
    NAME,
    PATIENCE_S,
    SETTINGS,
    Gateway,
    running_outrider,
    running_vllm,
)

from tiny_llama4 import write_hf


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--vllm", default="vllm", help="vLLM's command")
    parser.addoption("--vllm-url", help="a vLLM that runs already, with this model under this name")


@pytest.fixture(scope="session")
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("vllm")
    write_hf(MODEL, folder / "model")
    command, known_url = map(request.config.getoption, ("--vllm", "--vllm-url"))
    started = nullcontext(known_url) if known_url else running_vllm(command, folder)
    with started as vllm_url:
        (folder / "outrider.toml").write_text(SETTINGS.format(url=vllm_url, name=NAME))
        with (
            running_outrider(folder) as url,
            openai.OpenAI(
                base_url=f"{url}/v1", api_key="k", max_retries=0, timeout=PATIENCE_S
            ) as client,
        ):
            yield Gateway(url, vllm_url, client)
