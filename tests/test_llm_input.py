"""What callers of the library may write for messages, images and tools."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from outrider import LLM, SamplingParams
from outrider.errors import InvalidRequest, UnsupportedParameter
from outrider.llm_input import read_chat, read_tools
from outrider.text.image_tiles import cut_tiles
from outrider.types import ImagePart, Message, NamedTool, TextPart, Tool, ToolCall
from tiny_llama4 import TOKEN_IDS, TinyLlama4, TinyVision, write_hf

GREEDY = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
SCHEMA = {
    "type": "object",
    "properties": {"is_red": {"type": "boolean"}},
    "required": ["is_red"],
    "additionalProperties": False,
}
LABEL = Tool("label", "Say what it is.", SCHEMA)
PATCH = TOKEN_IDS["<|patch|>"]
TOKENS_PER_TILE = 4


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(noise)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def as_part(image: Image.Image) -> dict[str, Any]:
    return {"type": "image", "image": image}


def as_url(image: Image.Image) -> dict[str, Any]:
    uri = "data:image/png;base64," + base64.b64encode(png(image)).decode()
    return {"type": "image_url", "image_url": {"url": uri}}


# Reading.


def test_messages_are_domain_types_or_dictionaries() -> None:
    image = picture(3, 3)
    call = ToolCall("c1", "label", "{}")
    mine = Message("user", (TextPart("a"), ImagePart(b"x")))
    chat = read_chat(
        [
            {"role": "system", "content": "s"},
            mine,
            {"role": "user", "content": [as_part(image), {"type": "text", "text": "b"}]},
            {"role": "user", "content": (as_url(image), as_part(image))},
            {
                "role": "assistant",
                "tool_calls": [{"id": "c1", "function": {"name": "label", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "red"},
        ]
    )
    assert chat.messages[:2] == (Message("system", "s"), mine)
    assert [len(message.images) for message in chat.messages] == [0, 1, 1, 2, 0, 0]
    assert chat.messages[2].text == "b"
    assert chat.messages[3].images[0].data == png(image)
    assert chat.messages[4:] == (
        Message("assistant", "", (call,)),
        Message("tool", "red", tool_call_id="c1"),
    )
    assert chat.pictures == (None, image, None, image)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ("hello", "messages[1]"),
        ({}, "messages[1].role"),
        ({"role": "robot", "content": ""}, "messages[1].role"),
        ({"role": "user"}, "messages[1].content"),
        ({"role": "user", "content": 3}, "messages[1].content"),
        ({"role": "user", "content": [3]}, "messages[1].content[0]"),
        ({"role": "user", "content": [{"type": "image"}]}, "messages[1].content[0].image"),
        (
            {"role": "user", "content": [{"type": "image", "image": "cat.png"}]},
            "messages[1].content[0].image",
        ),
        (
            {"role": "user", "content": [as_part(picture(3, 3)) | {"size": 1}]},
            "messages[1].content[0].size",
        ),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a"}}]},
            "messages[1].content[0].image_url.url",
        ),
        ({"role": "user", "content": "a", "mood": 1}, "messages[1].mood"),
    ],
)
def test_a_wrong_message_is_named_by_its_path(message: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_chat([{"role": "user", "content": "a"}, message])
    assert caught.value.param == param
    assert param in caught.value.message


def test_tools_are_domain_types_or_dictionaries() -> None:
    function = {"name": "label", "description": "Say what it is.", "parameters": SCHEMA}
    for tool in (LABEL, {"type": "function", "function": function}):
        use = read_tools([tool], "auto", True)
        assert (use.tools, use.grammar, use.is_parallel) == ((LABEL,), None, True)
    named = {"type": "function", "function": {"name": "label"}}
    demanded = [read_tools([LABEL], choice, True) for choice in (NamedTool("label"), named)]
    assert demanded[0] == demanded[1]
    assert demanded[0].grammar is not None
    assert read_tools([LABEL], "none", True).tools == ()
    assert read_tools([], "auto", True).tools == ()


@pytest.mark.parametrize(
    ("tools", "choice", "param"),
    [
        ([Tool("a b")], "auto", "tools[0].function.name"),
        ([LABEL, LABEL], "auto", "tools[1].function.name"),
        ([Tool("a", "", {"type": "string"})], "auto", "tools[0].function.parameters"),
        ([3], "auto", "tools[0]"),
        ([LABEL], "any", "tool_choice"),
        ([LABEL], NamedTool("other"), "tool_choice.function.name"),
        ([], "required", "tool_choice"),
    ],
)
def test_wrong_tools_are_named_by_their_path(tools: Any, choice: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_tools(tools, choice, True)
    assert caught.value.param == param


# With a tiny Llama 4.


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("llama4")


def load(folder: Path, **options: Any) -> LLM:
    name = "bare" if options else "full"
    path = write_hf(TinyLlama4(vision=TinyVision()), folder / name, **options)
    return LLM(str(path), weights="f32", home=str(folder / "home"), threads=1)


@pytest.fixture(scope="module")
def llm(folder: Path) -> Iterator[LLM]:
    with load(folder) as model:
        yield model


@pytest.fixture(scope="module")
def bare(folder: Path) -> Iterator[LLM]:
    """The same model without tokenizer files."""
    with load(folder, with_tokenizer=False) as model:
        yield model


def with_patches(num_tiles: int) -> list[int]:
    return [5, 6, *[PATCH] * (TOKENS_PER_TILE * num_tiles), 7]


@pytest.mark.parametrize(("size", "num_tiles"), [((20, 20), 1), ((100, 50), 3), ((200, 220), 17)])
def test_logits_see_images_in_their_places(
    llm: LLM, bare: LLM, size: tuple[int, int], num_tiles: int
) -> None:
    image = picture(*size)
    token_ids = with_patches(num_tiles)
    logits = llm.logits(token_ids, images=[image])
    assert logits.shape == (len(token_ids), TinyLlama4().vocab_size)
    assert np.array_equal(bare.logits(token_ids, images=[image]), logits)
    other = llm.logits(token_ids, images=[picture(*size, seed=1)])
    assert np.array_equal(other[:2], logits[:2])
    assert not np.allclose(other[2:], logits[2:], atol=1e-3)


def test_several_images_stand_in_the_order_of_their_patches(llm: LLM) -> None:
    images = [picture(20, 20, 1), picture(100, 50, 2)]
    token_ids = [*with_patches(1), *with_patches(3)]
    both = llm.logits(token_ids, images=images)
    first = llm.logits(token_ids[:7], images=images[:1])
    assert np.array_equal(both[:7], first)
    with pytest.raises(InvalidRequest):
        llm.logits(token_ids, images=images[:1])


@pytest.mark.parametrize("num_patches", [0, 3, 5, 12])
def test_images_and_patches_have_to_match(llm: LLM, num_patches: int) -> None:
    with pytest.raises(InvalidRequest, match="patch tokens") as caught:
        llm.logits([1, *[PATCH] * num_patches], images=[picture(20, 20)])
    assert caught.value.param == "images"
    assert f"{num_patches} patch" in caught.value.message


@pytest.mark.parametrize("image", ["cat.png", b"bytes", None, 3])
def test_what_is_no_picture_is_named_by_its_place(llm: LLM, image: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        llm.logits(with_patches(2), images=[picture(20, 20), image])
    assert caught.value.param == "images[1]"


@pytest.mark.parametrize("images", [picture(20, 20), "cat.png", 3])
def test_a_picture_alone_is_no_list_of_them(llm: LLM, images: Any) -> None:
    with pytest.raises(InvalidRequest, match="give a list") as caught:
        llm.logits(with_patches(1), images=images)
    assert caught.value.param == "images"


def test_a_picture_is_the_same_as_an_object_and_as_a_file(llm: LLM) -> None:
    image = picture(70, 30)
    text = {"type": "text", "text": "what?"}
    ways: list[Any] = [
        {"role": "user", "content": [as_part(image), text]},
        {"role": "user", "content": [as_url(image), text]},
        Message("user", (ImagePart(png(image)), TextPart("what?"))),
    ]
    answers = [llm.chat([message], GREEDY) for message in ways]
    assert answers[0] == answers[1] == answers[2]
    num_tiles = cut_tiles(image, llm._prompts.vision).num_tiles
    assert answers[0].prompt_token_ids.count(PATCH) == num_tiles * TOKENS_PER_TILE
    assert "".join(llm.stream(ways[:1], GREEDY)) == answers[0].text
    blank = Image.new("RGB", image.size)
    assert llm.chat([{"role": "user", "content": [as_part(blank), text]}], GREEDY) != answers[0]


def test_the_example_of_the_documents_runs(
    llm: LLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[1] / "docs" / "library.md").read_text()
    (example,) = re.findall(r"^```py\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    picture(100, 50).save("lighthouse.jpg")
    monkeypatch.setattr(llm, "_default_params", lambda: GREEDY)
    names: dict[str, Any] = {"llm": llm, "token_ids": with_patches(3), "print": list}
    exec(example, names)
    assert names["logits"].shape == (15, TinyLlama4().vocab_size)


def test_a_picture_of_low_detail_is_one_tile(llm: LLM) -> None:
    image = picture(70, 30)
    as_file = as_url(image)
    as_file["image_url"]["detail"] = "low"
    contents: list[Any] = [
        [{**as_part(image), "detail": "low"}],
        [as_file],
        (ImagePart(png(image), "low"),),
    ]
    for content in contents:
        message = {"role": "user", "content": content}
        if isinstance(content, tuple):
            message = Message("user", content)  # type: ignore[assignment]
        answer = llm.chat([message], GREEDY)
        assert answer.prompt_token_ids.count(PATCH) == TOKENS_PER_TILE
    wrong = {"role": "user", "content": [{**as_part(image), "detail": "tiny"}]}
    with pytest.raises(InvalidRequest, match="tiny"):
        llm.chat([wrong], GREEDY)


@pytest.mark.parametrize("first", ["{", "[", "<", "a"])
@pytest.mark.parametrize("is_wire", [False, True])
def test_a_strict_tool_holds_its_calls_to_the_schema(llm: LLM, first: str, is_wire: bool) -> None:
    strict = Tool(LABEL.name, "", LABEL.parameters, strict=True)
    function = {"name": LABEL.name, "parameters": LABEL.parameters, "strict": True}
    tools: list[Any] = [{"type": "function", "function": function} if is_wire else strict]
    # The model itself can't do anything sensible; it is only pushed towards a beginning.
    bias = {llm.tokenize(first)[0]: 100.0}
    params = SamplingParams(temperature=0, max_tokens=100, logit_bias=bias, stop=("aaa",))
    answer = llm.chat([{"role": "user", "content": "a"}], params, tools=tools)
    if first == "a":
        assert not answer.tool_calls and answer.finish_reason == "stop"
        return
    assert answer.text == ""
    assert answer.tool_calls
    if answer.finish_reason == "length":
        answer.tool_calls.pop()
    for call in answer.tool_calls:
        assert call.name == "label"
        arguments = json.loads(call.arguments)
        assert arguments.keys() == {"is_red"} and type(arguments["is_red"]) is bool


def test_a_demanded_call_that_is_cut_off_is_a_call_with_what_there_is(llm: LLM) -> None:
    messages = [{"role": "user", "content": "a"}]
    named = NamedTool("label")
    full = llm.chat(
        messages, SamplingParams(temperature=0, max_tokens=60), tools=[LABEL], tool_choice=named
    )
    (whole,) = full.tool_calls
    seen = set()
    for max_tokens in range(1, len(full.token_ids)):
        params = SamplingParams(temperature=0, max_tokens=max_tokens)
        answer = llm.chat(messages, params, tools=[LABEL], tool_choice=named)
        assert (answer.text, answer.finish_reason) == ("", "length")
        for call in answer.tool_calls:
            assert call.name == whole.name
            assert whole.arguments.startswith(call.arguments)
            seen.add(call.arguments)
    assert len(seen) > 2


def test_a_demanded_call_is_made_and_may_be_answered(llm: LLM) -> None:
    question = {"role": "user", "content": [as_part(picture(9, 9)), {"type": "text", "text": "?"}]}
    params = SamplingParams(temperature=0, max_tokens=60, n=2)
    answer = llm.chat([question], params, tools=[LABEL], tool_choice=NamedTool("label"))
    assert answer.finish_reason == "tool_calls"
    assert answer.text == ""
    (call,) = answer.tool_calls
    assert call.name == "label"
    assert type(json.loads(call.arguments)["is_red"]) is bool
    assert answer.choices[1].tool_calls[0].id != call.id
    turns = [
        question,
        Message("assistant", "", (call,)),
        Message("tool", "yes", tool_call_id=call.id),
    ]
    assert len(llm.chat(turns, GREEDY, tools=[LABEL]).token_ids) == 8


def test_a_call_that_cannot_be_enforced_is_refused_before_anything_runs(llm: LLM) -> None:
    tool = Tool("f", "", {"type": "object", "dependentSchemas": {"a": {}}})
    messages = [{"role": "user", "content": "a"}]
    with pytest.raises(InvalidRequest, match="dependentSchemas") as caught:
        llm.chat(messages, GREEDY, tools=[tool], tool_choice="required")
    assert caught.value.param == "tools[0].function.parameters"
    assert llm.chat(messages, GREEDY, tools=[tool]).choices


def test_a_model_without_a_tokenizer_takes_token_ids_only(llm: LLM, bare: LLM) -> None:
    prompt = [1, 2, 3]
    assert bare.generate(prompt, GREEDY)[0].token_ids == llm.generate(prompt, GREEDY)[0].token_ids
    assert bare.generate(prompt, GREEDY)[0].text == ""
    uses: list[Any] = [
        lambda: bare.generate("text", GREEDY),
        lambda: bare.chat([{"role": "user", "content": "a"}], GREEDY),
        lambda: bare.tokenize("a"),
        lambda: bare.detokenize([1]),
        lambda: next(bare.stream("text", GREEDY)),
    ]
    for use in uses:
        with pytest.raises(InvalidRequest, match="without a tokenizer"):
            use()


def test_a_text_model_names_the_picture_that_it_does_not_take(folder: Path) -> None:
    path = write_hf(TinyLlama4(), folder / "text")
    with LLM(str(path), weights="f32", home=str(folder / "home"), threads=1) as model:
        message = {
            "role": "user",
            "content": [{"type": "text", "text": "a"}, as_part(picture(3, 3))],
        }
        with pytest.raises(InvalidRequest, match="text only") as caught:
            model.chat([message], GREEDY)
        assert caught.value.param == "messages[0].content[1]"
        with pytest.raises(UnsupportedParameter, match="no images"):
            model.logits([1, 2], images=[picture(3, 3)])
