"""Schemathesis sends what /openapi.json allows, and what it doesn't, to every operation."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from conftest import serving

SCHEMATHESIS = shutil.which("st", path=str(Path(sys.executable).parent))
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance"
LIMIT_S = 110


def test_no_operation_fails_or_answers_with_an_undocumented_status(
    python: str, tmp_path: Path
) -> None:
    assert SCHEMATHESIS
    # A short context: a request without max_tokens goes on to its end.
    options = ["smollm2-135m-instruct", "--embedding-model=all-minilm-l6-v2", "--max-model-len=128"]
    with serving(python, *options, f"--data-dir={tmp_path}") as url:
        result = subprocess.run(
            [
                *(SCHEMATHESIS, "run", f"{url}/openapi.json", "--checks", CHECKS),
                *("--phases", "fuzzing", "--max-examples", "8", "--max-time", "60"),
                *("--request-timeout", "30", "--seed", "1"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout
