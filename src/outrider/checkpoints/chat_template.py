"""What a model's chat template says, found without running it.

A template is a program out of a downloaded file, so it is only searched: for the control tokens
that name one of the chat formats Outrider has as code, and for the system prompt it inserts.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping

_SYSTEM_TURN = re.compile(r"<\|im_start\|>system(?:\n|\\n)")
_TURN_END = "<|im_end|>"
MAX_TEMPLATE_CHARS = 1 << 20
# Tokens that end an answer, by chat format; those that the vocabulary lacks are left out.
_STOP_TOKENS = {
    "chatml": ("<|im_end|>", "<|endoftext|>"),
    "llama3": ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"),
    "llama4": ("<|eot|>", "<|eom|>", "<|end_of_text|>"),
    "none": (),
}


def chat_format(template: str, vocabulary: Container[str]) -> str:
    """Name the chat format of a template: "chatml", "llama3", "llama4", or "none" of them."""
    for name, tokens in (
        ("chatml", ("<|im_start|>", "<|im_end|>")),
        ("llama3", ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
        ("llama4", ("<|header_start|>", "<|header_end|>", "<|eot|>")),
    ):
        # Some templates print a token in pieces; the opening one decides.
        if tokens[0] in template and all(token in vocabulary for token in tokens):
            return name
    return "none"


def default_system(template: str) -> str:
    """Find the ChatML system prompt that a template inserts literally; "" if there is none.

    The literal stands either in a quoted string of an expression or as bare text between tags.
    """
    # JSON can hold halves of surrogate pairs, which aren't text.
    text = template[:MAX_TEMPLATE_CHARS].encode(errors="replace").decode()
    for turn in _SYSTEM_TURN.finditer(text):
        end = text.find(_TURN_END, turn.end())
        if end < 0:
            return ""
        content = text[turn.end() : end]
        quote = text[turn.start() - 1] if turn.start() else ""
        if quote not in ("'", '"'):
            if "{" not in content and "}" not in content:
                return content
        elif not re.search(rf"(?<!\\){quote}", content):
            return _unescaped(content)
    return ""


def stop_token_ids(format_name: str, token_ids: Mapping[str, int]) -> tuple[int, ...]:
    """Give the ids of the tokens that end an answer in a chat format."""
    return tuple(token_ids[name] for name in _STOP_TOKENS[format_name] if name in token_ids)


def _unescaped(content: str) -> str:
    """Resolve the escapes of a quoted string; unknown ones stay as they are, as in Python."""
    escapes = {"n": "\n", "t": "\t", "'": "'", '"': '"', "\\": "\\"}
    return re.sub(r"\\([nt'\"\\])", lambda match: escapes[match[1]], content)
