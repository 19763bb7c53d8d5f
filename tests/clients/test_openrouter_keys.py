"""`openrouter`, OpenRouter's Python client, on a server that needs keys."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from material import user
from openrouter import OpenRouter, errors

from conftest import PATIENCE_S, serving

MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True)
class Locked:
    url: str
    manager: str  # a management key

    def client(self, key: str) -> OpenRouter:
        return OpenRouter(
            api_key=key, server_url=f"{self.url}/api/v1", timeout_ms=PATIENCE_S * 1000
        )


@pytest.fixture(scope="module")
def locked(python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Locked]:
    folder: Path = tmp_path_factory.mktemp("locked")
    create = [python, "-m", "outrider", "keys", "create", "--management", "admin"]
    made = subprocess.run([*create, "--data-dir", folder], capture_output=True, check=True)
    options = ["--auth=on", f"--data-dir={folder}", "--embedding-model=none"]
    with serving(python, MODEL, *options) as url:
        yield Locked(url, made.stdout.decode().strip())


def test_a_key_lives_from_its_making_to_its_deletion(locked: Locked) -> None:
    question = {"model": MODEL, "messages": user("Name a river."), "max_tokens": 4}
    with locked.client(locked.manager) as manager:
        made = manager.api_keys.create(name="team", limit=5, limit_reset="monthly")
        assert made.data.name == "team"
        with locked.client(made.key) as client:
            assert client.chat.send(**question).choices[0].message.content is not None
            own = client.api_keys.get_current_key_metadata().data
            assert (own.label, own.limit) == (made.data.label, 5)
            assert own.effective_budget and own.effective_budget.limit_usd == 5
            manager.api_keys.update(hash=made.data.hash, disabled=True)
            with pytest.raises(errors.UnauthorizedResponseError, match="was disabled"):
                client.chat.send(**question)
            listed = manager.api_keys.list(include_disabled=True).data
            assert [(key.name, key.disabled) for key in listed] == [("team", True)]
            assert manager.api_keys.get(hash=made.data.hash).data.last_used_at
            assert manager.api_keys.delete(hash=made.data.hash).DELETED
        with pytest.raises(errors.NotFoundResponseError):
            manager.api_keys.get(hash=made.data.hash)
        assert manager.credits.get_credits().data.total_usage == 0


def test_kinds_of_keys_are_kept_apart(locked: Locked) -> None:
    with locked.client(locked.manager) as manager:
        key = manager.api_keys.create(name="infer").key
        with pytest.raises(errors.ForbiddenResponseError):
            manager.chat.send(model=MODEL, messages=user("Hi"))
    with (
        locked.client(key) as client,
        pytest.raises(errors.ForbiddenResponseError, match="Only management keys"),
    ):
        client.credits.get_credits()
    with locked.client("unknown") as nobody, pytest.raises(errors.UnauthorizedResponseError):
        nobody.chat.send(model=MODEL, messages=user("Hi"))
