"""What a caller asks, as the model reads it: token ids, and tiles of images.

Brings chat format, tokenizer and image cutting together for everybody who makes prompts. Images
are decoded one after the other; their number and the memory of their tiles are bounded. Refuses
text for a model that came without a tokenizer, and images for one that only reads text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from outrider.errors import InvalidRequest
from outrider.model.config import VisionConfig
from outrider.text.chat import ChatFormat, Conversation, refuse_images
from outrider.text.conversation import part_param
from outrider.text.image_file import open_image
from outrider.text.image_tiles import TiledImage, cut_tiles, image_token_ids
from outrider.text.tokenizer import Tokenizer
from outrider.types import Detail, ImagePart, ImageTiles, Message, Tool

if TYPE_CHECKING:
    from PIL import Image

MAX_IMAGES = 64
MAX_PIXEL_BYTES = 128 << 20  # of all tiles of a prompt; 23 images of 17 tiles for Llama 4

CutImage = Callable[[ImagePart, str], TiledImage]  # gets the path of the part, for errors


class EncodedPrompt(NamedTuple):
    """One prompt, ready for the engine; the ids hold the patch tokens of all images."""

    token_ids: tuple[int, ...]
    images: tuple[TiledImage, ...] = ()


class PromptEncoder:
    """Makes the prompts of one model; safe to share between threads."""

    def __init__(
        self, tokenizer: Tokenizer | None, chat_format: ChatFormat, vision: VisionConfig | None
    ) -> None:
        self._tokenizer = tokenizer
        self._chat_format = chat_format
        self._vision = vision

    def tokenizer(self, param: str = "prompt") -> Tokenizer:
        """Give the tokenizer; a model that came without one is refused in the name of `param`."""
        if self._tokenizer is None:
            raise InvalidRequest(
                "this model came without a tokenizer; send token ids instead of text", param
            )
        return self._tokenizer

    def text(self, text: str, param: str = "prompt") -> tuple[int, ...]:
        """Encode a text that isn't a conversation, after the model's own prefix."""
        tokenizer = self.tokenizer(param)
        return (*self._chat_format.raw_prefix(tokenizer), *tokenizer.encode(text, param))

    def conversation(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] = (),
        cut_image: CutImage | None = None,
    ) -> EncodedPrompt:
        """Encode a conversation; `cut_image` replaces the decoding of its images."""
        tokenizer = self.tokenizer("messages")
        images = self._cut_images(messages, cut_image or self.cut_image)
        token_ids = [image_token_ids(image, self.vision, tokenizer) for image in images]
        conversation = Conversation(messages, tools, token_ids)
        return EncodedPrompt(
            tuple(self._chat_format.encode(conversation, tokenizer)), tuple(images)
        )

    @property
    def reads_images(self) -> bool:
        """Whether the model has an image tower."""
        return self._vision is not None

    @property
    def image_tiles(self) -> ImageTiles | None:
        """How images are cut; None if the model reads text only."""
        if self._vision is None:
            return None
        vision = self._vision
        return ImageTiles(vision.image_size, vision.max_tiles, vision.tokens_per_tile)

    @property
    def vision(self) -> VisionConfig:
        """Sizes of the model's image tower; raises `InvalidRequest` if it has none."""
        if self._vision is None:
            raise InvalidRequest("this model reads text only; leave the images out", "images")
        return self._vision

    def cut_image(self, part: ImagePart, param: str) -> TiledImage:
        """Decode an image and cut it into tiles."""
        return self.cut_picture(open_image(part.data, param), part.detail, param)

    def cut_picture(self, picture: Image.Image, detail: Detail, param: str) -> TiledImage:
        """Cut a picture into as many tiles as it fills, or for low `detail` fit it into one."""
        vision = self.vision
        if detail == "low":
            vision = msgspec.structs.replace(vision, max_tiles=1)
        return cut_tiles(picture, vision, param)

    def _cut_images(self, messages: Sequence[Message], cut_image: CutImage) -> list[TiledImage]:
        if self._vision is None:
            refuse_images(messages)
        parts = [
            (part, part_param(index, number))
            for index, message in enumerate(messages)
            if not isinstance(message.content, str)
            for number, part in enumerate(message.content)
            if isinstance(part, ImagePart)
        ]
        if len(parts) > MAX_IMAGES:
            raise InvalidRequest(
                f"messages hold {len(parts)} images; at most {MAX_IMAGES} are allowed", "messages"
            )
        images: list[TiledImage] = []
        num_bytes = 0
        for part, param in parts:
            images.append(cut_image(part, param))
            num_bytes += len(images[-1].pixels)
            if num_bytes > MAX_PIXEL_BYTES:
                raise InvalidRequest(
                    f"the images up to {param} have more than {MAX_PIXEL_BYTES >> 20} MiB as "
                    "tiles; send fewer or smaller ones",
                    param,
                )
        return images
