"""The web page's samples of code, run as they are shown: four wires by three languages."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import HERE, Server

NODE = shutil.which("node")
WIRES = ("openai", "openrouter", "workers-ai", "dataoorts")
COMMANDS = {
    "curl": ["bash"],
    "python": [sys.executable, "-"],
    "typescript": [str(NODE), "--input-type=module", "-"],
}
LIMIT_S = 60
# What a prompt may hold that a shell, Python or JavaScript would take for its own.
QUESTION = 'It\'s "quoted" $HOME `id` ${x} \\ {y} %s \u2028 \N{SNOWMAN}\nend'

pytestmark = pytest.mark.skipif(
    not (NODE and (HERE / "node_modules").exists()),
    reason="no Node 20 or newer with the packages of tests/clients/package.json",
)


def run(command: list[str], text: str = "", **environment: str) -> str:
    result = subprocess.run(
        command,
        cwd=HERE,
        env={**os.environ, **environment},
        input=text,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert result.returncode == 0, f"{text}\n{result.stdout}{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def samples(words: Server) -> dict[str, dict[str, str]]:
    body = {
        "model": words.model,
        "messages": [
            {"role": "system", "content": "Answer with the one word that is asked for."},
            {"role": "user", "content": QUESTION},
        ],
        "temperature": 0,
        "max_tokens": 60,
        "seed": 7,
        "min_p": 0.05,
        "stop": ["END"],
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "answer",
                "strict": True,
                "schema": {
                    "type": "object",
                    "properties": {"it's": {"enum": ["sample"]}},
                    "required": ["it's"],
                    "additionalProperties": False,
                },
            },
        },
    }
    return json.loads(run([str(NODE), "samples.mjs", words.url, json.dumps(body)]))


@pytest.mark.parametrize("language", COMMANDS)
@pytest.mark.parametrize("wire", WIRES)
def test_a_sample_of_the_page_runs_and_gives_the_answer(
    wire: str, language: str, samples: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    code = samples[wire][language]
    printed = run(COMMANDS[language], code, OUTRIDER_API_KEY="any", HOME=str(tmp_path))
    assert "it's" in printed.replace("\\", "")
    assert "sample" in printed
