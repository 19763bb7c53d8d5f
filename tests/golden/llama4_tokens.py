"""Token ids of Llama 4's own tokenizer, pinned as digests in llama4_tokens.txt.

Run it in tests/ with the `test` extra to make the file: `python -m golden.llama4_tokens`. The
vocabulary itself comes from the wheel llama-models, where Meta publishes it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import struct
from pathlib import Path
from typing import Any

from golden.tokenizer_texts import texts

GOLDEN = Path(__file__).parent / "llama4_tokens.txt"
DIGEST_CHARS = 12
NUM_PUBLISHED_MERGES = 439_802

Json = dict[str, Any]


def tokenizer_model() -> Path:
    """Find Meta's tokenizer.model of Llama 4."""
    package = importlib.util.find_spec("llama_models")
    assert package is not None and package.origin is not None, "install the `test` extra"
    return Path(package.origin).parent / "llama4" / "tokenizer.model"


def token_line(token_ids: list[int]) -> str:
    """Give number and digest of a text's token ids."""
    digest = hashlib.sha256(struct.pack(f"<{len(token_ids)}I", *token_ids)).hexdigest()
    return f"{len(token_ids)} {digest[:DIGEST_CHARS]}"


def texts_digest() -> str:
    """Give the digest of all texts: goldens of other texts say nothing."""
    return hashlib.sha256("\0".join(texts()).encode()).hexdigest()


def read_golden() -> tuple[str, list[str]]:
    """Give the digest of the texts and the line of each, in their order."""
    about, *lines = GOLDEN.read_text("utf-8").splitlines()
    return about.rsplit(" ", 1)[1], lines


def as_published(meta_json: str) -> Json:
    """Give a tokenizer.json as it is published: every pair that makes a token is a merge."""
    parts: Json = json.loads(meta_json)
    vocab = parts["model"]["vocab"]
    merges = []
    for token in vocab:  # in the order of the ids
        cuts = [(token[:at], token[at:]) for at in range(1, len(token))]
        known = [cut for cut in cuts if cut[0] in vocab and cut[1] in vocab]
        merges += sorted(known, key=lambda cut: (vocab[cut[0]], vocab[cut[1]]))
    assert len(merges) == NUM_PUBLISHED_MERGES
    parts["model"]["merges"] = merges
    return parts


def main() -> None:
    """Write the file with Meta's tokenizer."""
    from llama_models.llama4.tokenizer import Tokenizer

    reference = Tokenizer(tokenizer_model())
    versions = " ".join(
        f"{n} {importlib.metadata.version(n)}" for n in ("llama-models", "tiktoken")
    )
    lines = [token_line(reference.encode(text, bos=False, eos=False)) for text in texts()]
    GOLDEN.write_text("\n".join([f"{versions} texts {texts_digest()}", *lines]) + "\n", "utf-8")


if __name__ == "__main__":
    main()
