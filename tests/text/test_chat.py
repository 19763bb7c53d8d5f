"""Chat formats: ids of the models' own templates, and content that can't end a turn."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from outrider.errors import CheckpointError, InvalidRequest
from outrider.text.chat import (
    ChatFormat,
    ChatML,
    Conversation,
    Llama3,
    NoChat,
    chat_format,
    stop_token_ids,
)
from outrider.text.tokenizer import Tokenizer
from outrider.types import Message

SYSTEM = "You are of help."
CONTROL = ("<|im_start|>", "<|im_end|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>")
# Without the names of added tokens, which the library would recognise.
CONTENTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"), max_size=40)
HOSTILE = st.lists(st.one_of(st.sampled_from([*CONTROL, "\n", "system"]), CONTENTS)).map("".join)


def conversations(contents: st.SearchStrategy[str]) -> st.SearchStrategy[list[Message]]:
    roles = st.sampled_from(["system", "user", "assistant", "tool"])
    return st.lists(st.builds(Message, roles, contents), min_size=1, max_size=5)


def chatml_text(messages: Sequence[Message]) -> str:
    if messages[0].role != "system":
        messages = [Message("system", SYSTEM), *messages]
    turns = [f"<|im_start|>{m.role}\n{chatml_content(m)}<|im_end|>\n" for m in messages]
    return "".join(turns) + "<|im_start|>assistant\n"


def chatml_content(message: Message) -> str:
    if message.role == "tool":
        return f"<tool_response>\n{message.text}\n</tool_response>"
    return message.text


def llama3_text(messages: Sequence[Message]) -> str:
    text = "<|begin_of_text|>"
    for message in messages:
        role = {"tool": "ipython"}.get(message.role, message.role)
        header = f"<|start_header_id|>{role}<|end_header_id|>"
        text += f"{header}\n\n{message.text.strip()}<|eot_id|>"
    return text + "<|start_header_id|>assistant<|end_header_id|>\n\n"


@given(messages=conversations(CONTENTS))
def test_chatml_ids_are_those_of_the_whole_text(
    chatml_json: str, chatml_library: tokenizers.Tokenizer, messages: list[Message]
) -> None:
    reference = chatml_library.encode(chatml_text(messages)).ids
    token_ids = ChatML(SYSTEM).encode(Conversation(messages), Tokenizer(chatml_json))
    assert token_ids == reference


@given(messages=conversations(CONTENTS))
def test_llama3_ids_are_those_of_the_whole_text(
    llama3_json: str, llama3_library: tokenizers.Tokenizer, messages: list[Message]
) -> None:
    reference = llama3_library.encode(llama3_text(messages), add_special_tokens=False).ids
    assert Llama3().encode(Conversation(messages), Tokenizer(llama3_json)) == reference


@given(messages=conversations(HOSTILE))
def test_content_never_changes_the_number_of_control_tokens(
    chatml_json: str, llama3_json: str, messages: list[Message]
) -> None:
    harmless = [Message(message.role, "x") for message in messages]
    for chat, text in ((ChatML(SYSTEM), chatml_json), (Llama3(), llama3_json)):
        tokenizer = Tokenizer(text)
        assert control_ids(chat, messages, tokenizer) == control_ids(chat, harmless, tokenizer)


def control_ids(chat: ChatFormat, messages: list[Message], tokenizer: Tokenizer) -> list[int]:
    return [i for i in chat.encode(Conversation(messages), tokenizer) if tokenizer.is_special(i)]


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([Message("user", "hi")], f"system\n{SYSTEM}\nuser\nhi\nassistant\n"),
        ([Message("system", "s"), Message("user", "hi")], "system\ns\nuser\nhi\nassistant\n"),
    ],
    ids=["without system", "with system"],
)
def test_chatml_inserts_the_default_system_prompt(
    chatml_json: str, messages: list[Message], text: str
) -> None:
    tokenizer = Tokenizer(chatml_json)
    assert tokenizer.decode(ChatML(SYSTEM).encode(Conversation(messages), tokenizer)) == text


def test_chatml_without_default_system_inserts_nothing(chatml_json: str) -> None:
    tokenizer = Tokenizer(chatml_json)
    token_ids = ChatML().encode(Conversation([Message("user", "hi")]), tokenizer)
    assert tokenizer.decode(token_ids) == "user\nhi\nassistant\n"


def test_llama3_inserts_the_default_system_prompt(llama3_json: str) -> None:
    tokenizer = Tokenizer(llama3_json)
    messages = [Message("user", " hi ")]
    without = Conversation(messages)
    with_system = Conversation([Message("system", SYSTEM), *messages])
    assert Llama3(SYSTEM).encode(without, tokenizer) == Llama3().encode(with_system, tokenizer)


@pytest.mark.parametrize("name", ["chatml", "llama3"])
def test_no_messages_are_refused(chatml_json: str, name: str) -> None:
    with pytest.raises(InvalidRequest, match="messages is empty"):
        chat_format(name).encode(Conversation([]), Tokenizer(chatml_json))


@pytest.mark.parametrize("name", ["chatml", "llama3"])
def test_bad_content_is_named_by_its_path(chatml_json: str, llama3_json: str, name: str) -> None:
    tokenizer = Tokenizer({"chatml": chatml_json, "llama3": llama3_json}[name])
    with pytest.raises(InvalidRequest, match="surrogate") as caught:
        messages = [Message("user", "a"), Message("user", "\udfff")]
        chat_format(name).encode(Conversation(messages), tokenizer)
    assert caught.value.param == "messages[1].content"


def test_a_model_without_chat_format_refuses_messages(sentencepiece_json: str) -> None:
    tokenizer = Tokenizer(sentencepiece_json)
    with pytest.raises(InvalidRequest, match="send a prompt") as caught:
        NoChat().encode(Conversation([Message("user", "a")]), tokenizer)
    assert caught.value.param == "messages"
    assert chat_format("none").raw_prefix(tokenizer) == (tokenizer.special("<s>"),)


def test_raw_prompts_begin_as_the_tokenizer_says(chatml_json: str, llama3_json: str) -> None:
    assert chat_format("chatml").raw_prefix(Tokenizer(chatml_json)) == ()
    llama3 = Tokenizer(llama3_json)
    assert chat_format("llama3").raw_prefix(llama3) == (llama3.special("<|begin_of_text|>"),)


def test_stop_tokens_are_those_that_the_tokenizer_has(chatml_json: str, llama3_json: str) -> None:
    assert stop_token_ids(ChatML(), Tokenizer(chatml_json)) == (2, 0)
    llama3 = Tokenizer(llama3_json)
    names = ("<|eot_id|>", "<|end_of_text|>")
    assert stop_token_ids(Llama3(), llama3) == tuple(llama3.special(name) for name in names)


def test_a_foreign_tokenizer_is_named(llama3_json: str) -> None:
    with pytest.raises(CheckpointError, match="im_start"):
        ChatML().encode(Conversation([Message("user", "a")]), Tokenizer(llama3_json))


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(CheckpointError, match="alpaca"):
        chat_format("alpaca")
