"""Images through OpenAI's own client, against a server process with a tiny Llama 4."""

from __future__ import annotations

import base64
import io
import json
import random
import re
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from PIL import Image

from outrider import LLM, SamplingParams
from server.processes import Process, serve
from tiny_llama4 import TinyLlama4, TinyVision, write_hf

TOKENS_PER_TILE = 4
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "label",
        "parameters": {
            "type": "object",
            "properties": {"is_red": {"type": "boolean"}},
            "required": ["is_red"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("llama4")
    return write_hf(TinyLlama4(vision=TinyVision()), path / "tiny-llama4")


@pytest.fixture(scope="module")
def server(folder: Any) -> Iterator[Process]:
    with serve(folder, "--weights", "f32", "--home", str(folder.parent / "home")) as it:
        yield it


def encode(image: Image.Image, kind: str = "png") -> str:
    file = io.BytesIO()
    image.save(file, kind)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.frombytes(
        "RGB", (width, height), random.Random(seed).randbytes(3 * width * height)
    )


def look(*urls: str, text: str = "what?") -> Any:
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [*images, {"type": "text", "text": text}]}]


def ask(server: Process, messages: Any, **fields: Any) -> Any:
    defaults = {"max_tokens": 6, "temperature": 0, "extra_body": {"ignore_eos": True}}
    return server.client.chat.completions.create(
        model=server.model, messages=messages, **(defaults | fields)
    )


def num_image_tokens(rows: int, cols: int) -> int:
    if rows * cols == 1:
        return TOKENS_PER_TILE + 3
    return (TOKENS_PER_TILE + 1) * rows * cols + TOKENS_PER_TILE + 3


def num_encoded(server: Process) -> int:
    """Give the number of images that the server's tower has encoded."""
    with urllib.request.urlopen(f"{server.url}/metrics") as reply:
        text = reply.read().decode()
    counts = re.findall(r"^outrider_encoded_images_total\{[^}]*\} ([\d.]+)$", text, re.MULTILINE)
    return int(float(counts[0]))


@pytest.mark.parametrize(
    ("size", "tiles"), [((20, 20), (1, 1)), ((100, 50), (1, 2)), ((200, 200), (4, 4))]
)
def test_an_image_takes_the_tokens_of_its_tiles(
    server: Process, size: tuple[int, int], tiles: tuple[int, int]
) -> None:
    text_only = ask(server, look()).usage.prompt_tokens
    answer = ask(server, look(encode(picture(*size))))
    assert answer.usage.prompt_tokens - text_only == num_image_tokens(*tiles)
    assert answer.usage.completion_tokens == 6


def test_the_page_is_told_how_images_are_cut(server: Process) -> None:
    with urllib.request.urlopen(f"{server.url}/outrider/v1/models/{server.model}") as reply:
        tiles = json.load(reply)["image_tiles"]
    side = TinyVision().image_size
    assert tiles == {"side": side, "max_tiles": 16, "tokens_per_tile": TOKENS_PER_TILE}


def test_the_answer_depends_on_the_picture_and_not_on_its_file(server: Process) -> None:
    first, second = picture(60, 40, 1), picture(60, 40, 2)

    def tops(image: Image.Image, kind: str) -> list[float]:
        answer = ask(server, look(encode(image, kind)), logprobs=True, top_logprobs=20)
        return [top.logprob for top in answer.choices[0].logprobs.content[0].top_logprobs]

    assert tops(first, "png") == pytest.approx(tops(first.convert("RGBA"), "png"), abs=1e-4)
    assert tops(first, "png") != pytest.approx(tops(second, "png"), abs=1e-4)


def test_workers_ai_reads_images_in_parts_and_alone(server: Process) -> None:
    url = encode(picture(60, 40, 1))
    alone = [{"role": "user", "content": {"type": "image_url", "image_url": {"url": url}}}]
    for messages in (look(url), alone):
        body = {"messages": messages, "max_tokens": 6, "temperature": 0}
        path = f"{server.url}/client/v4/accounts/a/ai/run/{server.model}"
        with urllib.request.urlopen(path, json.dumps(body).encode()) as reply:
            result = json.load(reply)["result"]
        parts = messages[0]["content"]
        parts = parts if isinstance(parts, list) else [parts]
        expected = ask(server, [{"role": "user", "content": parts}], extra_body={})
        assert result["response"] == expected.choices[0].message.content
        assert result["usage"]["prompt_tokens"] == expected.usage.prompt_tokens


def test_the_library_answers_as_the_server(server: Process, folder: Any) -> None:
    image = picture(90, 50)
    answer = ask(server, look(encode(image)), max_tokens=12)
    content = [{"type": "image", "image": image}, {"type": "text", "text": "what?"}]
    with LLM(str(folder), weights="f32", home=str(folder.parent / "home"), threads=1) as llm:
        params = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
        completion = llm.chat([{"role": "user", "content": content}], params)
    assert completion.text == answer.choices[0].message.content
    assert len(completion.prompt_token_ids) == answer.usage.prompt_tokens


def test_images_of_earlier_turns_are_found_in_the_cache(server: Process) -> None:
    image, other = encode(picture(120, 60, 7)), encode(picture(30, 30, 8))
    num_before = num_encoded(server)
    turn = look(image, text="What is this picture of a lighthouse about, then?")
    first = ask(server, turn)
    said = {"role": "assistant", "content": first.choices[0].message.content}
    second = ask(server, [*turn, said, *look(other, image)])
    assert second.usage.prompt_tokens > first.usage.prompt_tokens + 2 * TOKENS_PER_TILE
    assert second.usage.prompt_tokens_details.cached_tokens > num_image_tokens(1, 2)
    # `image` stands three times in the two turns. The engine's counts come after its answers.
    server.wait_until(lambda *_: num_encoded(server) >= num_before + 2, limit_s=10)
    assert num_encoded(server) == num_before + 2


def test_a_tool_is_called_about_an_image(server: Process) -> None:
    choice = {"type": "function", "function": {"name": "label"}}
    answer = ask(
        server,
        look(encode(picture(40, 40))),
        tools=[TOOL],
        tool_choice=choice,
        max_tokens=60,
        extra_body={},
    ).choices[0]
    assert answer.finish_reason == "tool_calls"
    (call,) = answer.message.tool_calls
    assert type(json.loads(call.function.arguments)["is_red"]) is bool


def bad_urls() -> list[str]:
    chances = random.Random(3)
    png = base64.b64decode(encode(picture(64, 64)).partition(",")[2])
    urls = ["http://127.0.0.1:1/a.png", "https://example.com/a.png", "file:///etc/passwd", "", "x"]
    for _ in range(40):
        damaged = bytearray(png[: chances.randrange(8, len(png) // 2)])
        damaged[chances.randrange(len(damaged))] ^= 0xFF
        urls.append("data:image/png;base64," + base64.b64encode(damaged).decode())
    urls += [
        f"data:image/jpeg;base64,{base64.b64encode(chances.randbytes(n)).decode()}"
        for n in range(1, 41)
    ]
    bomb = Image.new("1", (30_000, 30_000))
    urls += [encode(bomb), encode(Image.new("L", (1, 70_000)))]
    urls += ["data:image/png;base64,@@@", "data:text/html;base64,QQ==", "data:image/png,raw"]
    return urls + urls[:10]


@pytest.mark.slow
def test_a_hundred_bad_images_are_400s_and_the_server_goes_on(server: Process) -> None:
    urls = bad_urls()
    assert len(urls) == 100
    good = encode(picture(20, 20))
    expected = ask(server, look(good)).choices[0].message.content

    def send(url: str) -> str:
        with pytest.raises(openai.BadRequestError) as caught:
            ask(server, look(good, url))
        assert caught.value.param is not None
        assert caught.value.param.startswith("messages[0].content[1]")
        return caught.value.message

    with ThreadPoolExecutor(10) as pool:
        messages = list(pool.map(send, urls))
    assert all("\n" not in message for message in messages)
    assert ask(server, look(good)).choices[0].message.content == expected
    status, health = server.health()
    assert (status, health["restarts"], health["pending"]) == (200, 0, 0)


def test_too_many_images_are_refused(server: Process) -> None:
    with pytest.raises(openai.BadRequestError, match="65 images"):
        ask(server, look(*[encode(picture(2, 2))] * 65))
