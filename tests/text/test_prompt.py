"""Prompts: what models without a tokenizer or without eyes refuse, and how images get in."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from fake_engine import PATCH, VISION
from gateway.fake_client import NotingTokenizer, PlainChat
from outrider.errors import InvalidRequest
from outrider.text.image_tiles import TiledImage, cut_tiles
from outrider.text.prompt import MAX_IMAGES, PromptEncoder
from outrider.types import ImagePart, Message, TextPart


def make(has_tokenizer: bool = True, has_vision: bool = True) -> PromptEncoder:
    tokenizer = NotingTokenizer() if has_tokenizer else None
    return PromptEncoder(tokenizer, PlainChat(), VISION if has_vision else None)  # type: ignore[arg-type]


def png(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "PNG")
    return file.getvalue()


def test_without_a_tokenizer_text_and_conversations_are_refused_by_name() -> None:
    prompts = make(has_tokenizer=False)
    for encode, param in (
        (lambda: prompts.text("a", "prompt[1]"), "prompt[1]"),
        (lambda: prompts.conversation([Message("user", "a")]), "messages"),
        (lambda: prompts.tokenizer(), "prompt"),
    ):
        with pytest.raises(InvalidRequest, match="without a tokenizer") as caught:
            encode()
        assert caught.value.param == param


def test_images_are_replaced_in_order_and_named_by_their_place() -> None:
    messages = [
        Message("user", (ImagePart(png(3, 3)), TextPart("a"), ImagePart(b"second"))),
        Message("user", "xyz"),
        Message("user", (ImagePart(b"third"),)),
    ]
    asked: list[tuple[bytes, str]] = []

    def cut(part: ImagePart, param: str) -> TiledImage:
        asked.append((part.data, param))
        return cut_tiles(Image.new("RGB", (len(asked), 1)), VISION, param)

    token_ids, images = make().conversation(messages, (), cut)
    assert [param for _, param in asked] == [
        "messages[0].content[0]",
        "messages[0].content[2]",
        "messages[2].content[0]",
    ]
    assert asked[1][0] == b"second"
    assert len(images) == 3
    assert token_ids.count(PATCH) == 3 * VISION.tokens_per_tile


def test_an_image_of_low_detail_is_one_tile_that_shows_all_of_it() -> None:
    data = png(40, 20)
    prompts = make()
    for detail, num_tiles in (("auto", 16), ("high", 16), ("low", 1)):
        part = ImagePart(data, detail)  # type: ignore[arg-type]
        token_ids, (image,) = prompts.conversation([Message("user", (part,))])
        assert image.num_tiles == num_tiles
        assert token_ids.count(PATCH) == num_tiles * VISION.tokens_per_tile
    assert prompts.vision == VISION


def test_a_model_that_only_reads_refuses_images_before_it_opens_them() -> None:
    prompts = make(has_vision=False)
    assert prompts.conversation([Message("user", "a")]).images == ()
    with pytest.raises(InvalidRequest, match="text only") as caught:
        prompts.conversation([Message("user", (TextPart("a"), ImagePart(b"garbage")))])
    assert caught.value.param == "messages[0].content[1]"
    with pytest.raises(InvalidRequest, match="text only"):
        _ = prompts.vision


def test_the_number_of_images_is_bounded() -> None:
    part = ImagePart(png(1, 1))
    assert len(make().conversation([Message("user", (part,) * MAX_IMAGES)]).images) == MAX_IMAGES
    with pytest.raises(InvalidRequest, match="at most 64"):
        make().conversation([Message("user", (part,) * (MAX_IMAGES + 1))])
