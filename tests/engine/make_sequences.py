"""Sequences for tests of what lies below the engine."""

from __future__ import annotations

from collections.abc import Sequence as Items

from fake_engine import FakeTokenizer
from outrider.engine.detokenizer import Detokenizer
from outrider.engine.prompt_images import PromptImages
from outrider.engine.sampler import SamplerState
from outrider.engine.sequence import Sequence, SequenceId, to_token_array
from outrider.types import SamplingParams


def make_sequence(
    token_ids: Items[int],
    seq_id: int = 0,
    root: str | int = "root",
    images: PromptImages | None = None,
) -> Sequence:
    params = SamplingParams(seed=0)
    return Sequence(
        id=SequenceId(seq_id, str(seq_id), 0, 0, ("shared", root)),
        sampling=params,
        token_ids=to_token_array(token_ids),
        num_prompt_tokens=len(token_ids),
        max_num_tokens=1000,
        sampler=SamplerState(params, 0, token_ids),
        detokenizer=Detokenizer(FakeTokenizer()),
        logprobs=None,
        images=images,
    )
