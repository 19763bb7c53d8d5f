"""`llm`, through its file of OpenAI-compatible models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import llm
import pytest
from material import QUESTION, SCHEMA, WEATHER_RESULT, check_colour, picture

from conftest import Server


@pytest.fixture(scope="module")
def home(words: Server, eyes: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("llm")
    common = {"api_key_name": "outrider", "supports_tools": True, "supports_schema": True}
    rows = [
        {"model_id": name, "model_name": server.model, "api_base": f"{server.url}/v1", **common}
        for name, server in (("words", words), ("eyes", eyes))
    ]
    rows.append({**rows[0], "model_id": "nobody", "model_name": "no-such-model"})
    rows[1]["vision"] = True
    (folder / "extra-openai-models.yaml").write_text(json.dumps(rows))  # JSON is YAML
    (folder / "keys.json").write_text('{"outrider": "key"}')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLM_USER_PATH", str(folder))
        yield folder


def get_weather(city: str) -> str:
    """Get the weather of a city."""
    del city
    return WEATHER_RESULT


def test_models_are_found(home: Path) -> None:
    del home
    assert {"words", "eyes"} <= {model.model_id for model in llm.get_models()}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_chat_is_answered(home: Path, stream: bool) -> None:
    del home
    response = llm.get_model("words").prompt(
        "Name a river.", stream=stream, max_tokens=16, temperature=0
    )
    assert response.text()
    assert response.usage().output <= 16


def test_the_result_of_a_tool_is_answered(home: Path) -> None:
    del home
    model = llm.get_model("words")
    conversation = model.conversation(tools=[get_weather])
    first = conversation.prompt(QUESTION, max_tokens=32, temperature=0)
    first.text()  # a small model may call or not: `llm` has no tool_choice
    results = [
        llm.ToolResult(name=call.name, output=WEATHER_RESULT, tool_call_id=call.tool_call_id)
        for call in first.tool_calls()
    ]
    second = conversation.prompt("And now?", tool_results=results, max_tokens=16)
    assert second.text() or second.tool_calls()


def test_an_answer_keeps_to_a_schema(home: Path) -> None:
    del home
    response = llm.get_model("words").prompt("Which colour is fire?", schema=SCHEMA)
    check_colour(json.loads(response.text()))


def test_an_image_is_seen(home: Path) -> None:
    del home
    model = llm.get_model("eyes")
    seen = model.prompt(
        "What is this?", attachments=[llm.Attachment(content=picture())], max_tokens=4
    )
    text_only = model.prompt("What is this?", max_tokens=4)
    seen.text(), text_only.text()
    assert seen.usage().input > text_only.usage().input + 4


def test_errors_are_told(home: Path) -> None:
    del home
    with pytest.raises(Exception, match="no-such-model"):
        llm.get_model("nobody").prompt("Hi").text()
