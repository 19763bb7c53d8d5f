"""Tests of counting prompts: the same tokens as the engine gets, without decoding images."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from gateway.fake_client import (
    FakeClient,
    NotingTokenizer,
    PlainChat,
    make_provider,
    request,
    run,
    short_answers,
)
from outrider.gateway.prompt_size import IMAGE_TOKENS, most_prompt_tokens
from outrider.gateway.token_counter import TokenCounter
from outrider.server.tokenizers import load_counter
from outrider.settings import DEFAULT_MODEL
from outrider.text.prompt import PromptEncoder
from outrider.types import GenerationRequest, ImagePart, Message, TextPart, Tool


def counted(wanted: GenerationRequest, tokenizer: NotingTokenizer | None = None) -> int:
    encoder = PromptEncoder(tokenizer or NotingTokenizer(), PlainChat(), None)  # type: ignore[arg-type]
    return asyncio.run(TokenCounter(encoder).count(wanted))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"prompts": ("Hi", "Hello there", (1, 2, 3))},
        {"tools": (Tool("now"), Tool("then"))},
        {"tools": (Tool("now"),), "tool_choice": "none"},
    ],
)
def test_the_count_is_what_the_engine_gets(fields: dict[str, Any]) -> None:
    client = FakeClient(short_answers)
    wanted = request(**fields)
    run(make_provider(client), wanted)
    assert counted(wanted) == sum(map(len, client.submitted[0].prompts))
    assert counted(wanted) <= most_prompt_tokens(wanted)


def test_images_count_as_the_most_that_they_take_and_are_not_decoded() -> None:
    image = ImagePart(b"no image at all")
    wanted = request(messages=(Message("user", (TextPart("Hello"), image, image)),))
    assert counted(wanted) == 5 + 2 * IMAGE_TOKENS


@pytest.mark.parametrize(("length", "is_here"), [(10, True), (20_000, False)])
def test_long_prompts_are_counted_off_the_event_loop(length: int, is_here: bool) -> None:
    tokenizer = NotingTokenizer()
    assert counted(request(prompts=("x" * length,)), tokenizer) == length + 1
    assert (threading.get_ident() in tokenizer.threads) == is_here


@pytest.mark.real_model
def test_a_pulled_models_tokenizer_counts_for_a_remote_host(model_path: Path) -> None:
    from outrider import config

    counter = load_counter(DEFAULT_MODEL, config.load(env={}).home)
    wanted = GenerationRequest(request_id="r", model="m", messages=(Message("user", "Hello!"),))
    assert 5 < asyncio.run(counter.count(wanted)) < 60
