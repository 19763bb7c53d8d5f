"""Makes greedy.json: greedy tokens, some logits and a perplexity as transformers computes them.

Run it in tests/ with the `parity` extra: `python -m golden.make_greedy MODEL.gguf`. It takes some
minutes. Control tokens' names in a prompt's own text are content in Outrider, so the reference
ids are made with those names kept as text.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import tokenizers
import torch
import transformers

from golden.comparison import GREEDY_JSON, mean_nll
from golden.oracle import (
    F32Array,
    Oracle,
    load_oracle,
    load_tokenizer,
    read_gguf,
    render_chat,
)
from golden.prompts import PROMPTS, TEXT, Conversation

NUM_TOKENS = 64
NUM_TEXT_TOKENS = 2000
LOGITS_OF = ("raw long", "chat code", "chat unicode")
NUM_BEST, NUM_RANDOM = 50, 200
# Stands for "<|" in content while the template is applied; it occurs in no prompt.
BRACKET = "\ue000"
CONTROL_TOKENS = re.compile(r"(<\|im_start\|>|<\|im_end\|>)")


def prompt_token_ids(
    reader: gguf.GGUFReader, tokenizer: tokenizers.Tokenizer, prompt: str | Conversation
) -> list[int]:
    """Tokenise a prompt; only the template's own control tokens are control tokens."""
    tokenizer.encode_special_tokens = True
    if isinstance(prompt, str):
        return list(tokenizer.encode(prompt, add_special_tokens=False).ids)
    hidden = [m | {"content": m["content"].replace("<|", BRACKET)} for m in prompt]
    token_ids: list[int] = []
    for index, piece in enumerate(CONTROL_TOKENS.split(render_chat(reader, hidden))):
        if index % 2:
            token_ids.append(tokenizer.token_to_id(piece))
        else:
            content = piece.replace(BRACKET, "<|")
            token_ids += tokenizer.encode(content, add_special_tokens=False).ids
    return token_ids


def greedy_golden(oracle: Oracle, token_ids: list[int]) -> dict[str, list[Any]]:
    """Give the tokens of a greedy continuation, the runners-up and how far behind they were."""
    golden: dict[str, list[Any]] = {"token_ids": [], "runner_up_ids": [], "gaps": []}
    for row in oracle.greedy(token_ids, NUM_TOKENS):
        second, best = np.argsort(row, kind="stable")[-2:]
        golden["token_ids"].append(int(best))
        golden["runner_up_ids"].append(int(second))
        golden["gaps"].append(round(float(row[best] - row[second]), 6))
    return golden


def logits_golden(logits: F32Array, seed: int) -> list[dict[str, Any]]:
    """Give the best and some other logits at the first, a middle and the last position."""
    rng = np.random.default_rng(seed)
    golden = []
    for position in sorted({0, len(logits) // 2, len(logits) - 1}):
        row = logits[position]
        best = np.argsort(row)[::-1][:NUM_BEST]
        others = rng.choice(row.size, NUM_RANDOM, replace=False)
        ids = list(dict.fromkeys(map(int, (*best, *others))))
        values = [round(float(row[token_id]), 5) for token_id in ids]
        golden.append({"position": position, "ids": ids, "values": values})
    return golden


def make(path: Path) -> dict[str, Any]:
    """Compute everything that greedy.json holds."""
    reader = read_gguf(path)
    oracle, tokenizer = load_oracle(reader), load_tokenizer(reader)
    prompts = {}
    for seed, (name, prompt) in enumerate(PROMPTS.items()):
        token_ids = prompt_token_ids(reader, tokenizer, prompt)
        golden = {"prompt_token_ids": token_ids, **greedy_golden(oracle, token_ids)}
        golden["text"] = tokenizer.decode(golden["token_ids"])
        if name in LOGITS_OF:
            golden["logits"] = logits_golden(oracle.logits(token_ids), seed)
        prompts[name] = golden
        sys.stderr.write(f"{name}: {golden['text']!r}\n")
    text_ids = tokenizer.encode(TEXT, add_special_tokens=False).ids[:NUM_TEXT_TOKENS]
    nll = mean_nll(oracle.logits(text_ids), text_ids)
    return {
        "model_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "versions": {
            module.__name__: module.__version__ for module in (np, tokenizers, torch, transformers)
        },
        "text": {"num_tokens": len(text_ids), "mean_nll": nll, "perplexity": math.exp(nll)},
        "prompts": prompts,
    }


def to_json(golden: dict[str, Any]) -> str:
    """Write JSON with each list of numbers on one line."""
    text = json.dumps(golden, ensure_ascii=False, indent=1, default=str)
    lists = re.compile(r"\[\n\s+([-\d.,e\s]+?)\n\s+\]")
    return lists.sub(lambda match: f"[{' '.join(match[1].split())}]", text) + "\n"


if __name__ == "__main__":
    torch.set_num_threads(1)
    GREEDY_JSON.write_text(to_json(make(Path(sys.argv[1]))), "utf-8")
