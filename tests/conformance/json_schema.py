"""The JSON-Schema-Test-Suite through response_format; in tests: python -m conformance.json_schema.

A schema is either refused when a request is decoded and compiled, or the grammar accepts all of its
valid instances and none of the others; whatever isn't so is a violation. JSON writes one value in
several ways and a grammar fixes one: an instance counts as accepted if any order of its keys, with
whole numbers written as 1 or 1.0, is.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from outrider.dialects.base import Envelope
from outrider.dialects.openai_request import decode_chat
from outrider.engine.grammar import Grammars
from outrider.errors import InvalidRequest
from outrider.types import Grammar

SUITE = Path(__file__).parents[3] / "shared" / "data" / "json-schema-test-suite"
DRAFTS = ("draft2020-12", "draft7")
MAX_SPELLINGS = 1000
END = 256


class ByteTokenizer:
    """A vocabulary of single bytes and an end: what is allowed next is then known exactly."""

    vocab_size = 257

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < END else b"<end>"

    def is_special(self, token_id: int) -> bool:
        return token_id == END


@dataclass
class Report:
    """Counts of a draft, and what went against the promise."""

    num_schemas: int = 0
    num_refused: int = 0
    num_enforced: int = 0
    num_instances: int = 0
    violations: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)


def spellings(value: Any) -> Iterator[str]:
    """Write a value with its keys in every order, and whole numbers in both ways."""
    if isinstance(value, dict):
        for names in itertools.permutations(value):
            for parts in itertools.product(*(list(spellings(value[name])) for name in names)):
                members = (f"{quoted(n)}: {p}" for n, p in zip(names, parts, strict=True))
                yield "{" + ", ".join(members) + "}"
    elif isinstance(value, list):
        for parts in itertools.product(*(list(spellings(item)) for item in value)):
            yield "[" + ", ".join(parts) + "]"
    else:
        yield quoted(value)
        if isinstance(value, float) and value.is_integer():
            yield str(int(value))


def quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def grammar_of(schema: object) -> Grammar:
    """Decode a chat request that asks for a schema."""
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "response_format": form}
    decoded = decode_chat(json.dumps(body).encode(), Envelope(request_id="r"))
    assert decoded.request.grammar is not None
    return decoded.request.grammar


def accepts(grammars: Grammars, grammar: Grammar, text: str) -> bool:
    """Walk a matcher over a text, asking for the mask before every token as the engine does."""
    matcher = grammars.matcher(grammar)
    words = np.empty(matcher.num_words, np.uint32)
    for token_id in (*text.encode(), END):
        if matcher.fill_mask(words) or not int(words[token_id // 32]) >> token_id % 32 & 1:
            return False
        matcher.advance(token_id)
    return True


def run(draft: str) -> Report:
    report = Report()
    for file in sorted((SUITE / draft).glob("*.json")):
        for case in json.loads(file.read_text("utf-8")):
            report.num_schemas += 1
            grammars = Grammars(ByteTokenizer(), (END,))
            try:
                grammar = grammar_of(case["schema"])
                grammars.matcher(grammar)
            except InvalidRequest as error:
                report.num_refused += 1
                report.reasons[error.message] += 1
                continue
            violations = list(check_case(grammars, grammar, case, report))
            report.num_enforced += not violations
            report.violations += [f"{file.stem}: {violation}" for violation in violations]
    return report


def check_case(
    grammars: Grammars, grammar: Grammar, case: dict[str, Any], report: Report
) -> Iterator[str]:
    for test in case["tests"]:
        report.num_instances += 1
        texts = itertools.islice(spellings(test["data"]), MAX_SPELLINGS)
        is_accepted = any(accepts(grammars, grammar, text) for text in texts)
        if is_accepted != test["valid"]:
            done = "accepted" if is_accepted else "refused"
            yield f"{done}: {case['description']}, {test['description']}, {grammar.source[:200]}"


def row(draft: str, report: Report) -> str:
    """Write the row of docs/structured-output.md."""
    return (
        f"| {draft} | {report.num_schemas} | {report.num_refused} | {report.num_enforced} "
        f"| {len(report.violations)} | {report.num_instances} |"
    )


def main() -> None:
    for draft in DRAFTS:
        report = run(draft)
        print(row(draft, report), *report.violations, sep="\n")
        for reason, count in report.reasons.most_common():
            print(f"{count:6}  {reason[:150]}")


if __name__ == "__main__":
    main()
