"""Chat format and default system prompt, found in a template's text."""

from __future__ import annotations

import pytest

from outrider.checkpoints.chat_template import chat_format, default_system, stop_token_ids
from tiny_models import CHATML_TEMPLATE, DEFAULT_SYSTEM

LLAMA3_TOKENS = {"<|start_header_id|>": 5, "<|end_header_id|>": 6, "<|eot_id|>": 7}
LLAMA4_TOKENS = {"<|header_start|>": 5, "<|header_end|>": 6, "<|eom|>": 7, "<|eot|>": 8}
CHATML_TOKENS = {"<|im_start|>": 1, "<|im_end|>": 2, "<|endoftext|>": 0}


def test_chat_format_needs_the_template_and_the_tokens() -> None:
    assert chat_format(CHATML_TEMPLATE, CHATML_TOKENS) == "chatml"
    assert chat_format(CHATML_TEMPLATE, {}) == "none"
    assert chat_format("{{ '<|start_header_id|>' + role }}", LLAMA3_TOKENS) == "llama3"
    assert chat_format("{{ '<|header_start|>' + role }}", LLAMA4_TOKENS) == "llama4"
    assert chat_format("{{ '<|header_start|>' + role }}", LLAMA3_TOKENS) == "none"
    assert chat_format("[INST] {{ x }} [/INST]", CHATML_TOKENS | LLAMA3_TOKENS) == "none"


def test_stop_tokens_are_those_that_the_vocabulary_has() -> None:
    assert stop_token_ids("chatml", CHATML_TOKENS) == (2, 0)
    assert stop_token_ids("llama3", LLAMA3_TOKENS | {"<|end_of_text|>": 9}) == (7, 9)
    assert stop_token_ids("llama4", LLAMA4_TOKENS | {"<|end_of_text|>": 1}) == (8, 7, 1)
    assert stop_token_ids("none", CHATML_TOKENS) == ()


TURN = "<|im_start|>system\n"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (CHATML_TEMPLATE, DEFAULT_SYSTEM),
        ("{{ '<|im_start|>system\\nBe \\'kind\\'.\\n<|im_end|>\\n' }}", "Be 'kind'.\n"),
        ('{{- "<|im_start|>system\\nIt\'s me<|im_end|>" }}', "It's me"),
        ("{% if x %}" + TURN + "Plain 'text'<|im_end|>{% endif %}", "Plain 'text'"),
        ("{{ '" + TURN + "' + messages[0].content + '<|im_end|>' }}", ""),
        ("{% if x %}" + TURN + "{{ system }}<|im_end|>{% endif %}", ""),
        (
            "{{ '"
            + TURN
            + "' + system + '<|im_end|>' }}{% else %}{{ '"
            + TURN
            + "Hi<|im_end|>' }}",
            "Hi",
        ),
        ("{{ '" + TURN + "no end' }}", ""),
        ("{{ '<|im_start|>' + role + '\n' + content + '<|im_end|>' }}", ""),
        ("", ""),
        ("{{ '" + TURN + "half \ud800<|im_end|>' }}", "half ?"),
    ],
)
def test_default_system_is_the_literal_that_the_template_inserts(
    template: str, expected: str
) -> None:
    assert default_system(template) == expected


def test_search_takes_linear_time_in_a_hostile_template() -> None:
    assert default_system(("'" + TURN) * 30_000 + "x" * 100_000) == ""
