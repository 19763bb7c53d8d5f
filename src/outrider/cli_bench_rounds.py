"""The rounds of `outrider bench`: each runs prompts and judges them by the limits of the moment.

A share is the least time that the machine's limits allow for the work, over the time it took. The
limits are measured right before and after every round, because they drift. Prompts and decoding are
timed apart: with the prefix cache all sequences of a batch begin to decode at the same time.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outrider.engine.cost import ModelCost, StepCost
    from outrider.engine.loader import LoadedModel
    from outrider.kernels.limits import MachineLimits

Figures = dict[str, float]


class Rounds:
    """Measures one loaded model against the limits of its threads and instruction set."""

    def __init__(self, loaded: LoadedModel, cost: ModelCost, limits: MachineLimits) -> None:
        self._loaded = loaded
        self._cost = cost
        self._limits = limits

    def run(self, num_seqs: int, prompt: int, generate: int) -> Figures:
        """Run one round; gives speeds, the limits beside them and the shares."""
        before = self._limits.measure()
        speeds = measure(self._loaded, num_seqs, prompt, generate)
        after = self._limits.measure()
        limits = {name: (before[name] + after[name]) / 2 for name in before}
        prompts = self._cost.prompt(prompt, num_seqs=num_seqs)
        # The mean over the steps: the first of them sees the prompt and its first answer.
        token = self._cost.decode(num_seqs, prompt + generate / 2)
        return {
            **speeds,
            **limits,
            "prompt_share": share(
                prompts, num_seqs * prompt, speeds["prompt_tokens_per_s"], limits
            ),
            "decode_share": share(token, num_seqs, speeds["decode_tokens_per_s"], limits),
        }


def share(work: StepCost, num_tokens: int, tokens_per_s: float, limits: Figures) -> float:
    """Give the least time of a piece of work over the time that it took at a speed.

    0 stands for unknown: no limit of products is known for the instruction set.
    """
    products = {name.removesuffix("_gmac_per_s"): rate for name, rate in limits.items()}
    if work.product_seconds(products) is None:
        return 0.0
    return work.limit_seconds(limits["read_gb_per_s"], products) * tokens_per_s / num_tokens


def measure(loaded: LoadedModel, num_seqs: int, prompt: int, generate: int) -> Figures:
    """Compute random prompts, then decode after the same ones; with a prefix cache in one go."""
    vocab_size = loaded.config.vocab_size
    prompts = [random.choices(range(vocab_size), k=prompt) for _ in range(num_seqs)]
    return time_prompts(loaded, prompts) | time_decoding(loaded, prompts, generate)


def time_prompts(loaded: LoadedModel, prompts: list[list[int]]) -> Figures:
    """Compute prompts together, each up to its first token."""
    begin = time.perf_counter()
    _submit(loaded, prompts, 1)
    ttft_s = 0.0
    while loaded.engine.has_work:
        if loaded.engine.step() and not ttft_s:
            ttft_s = time.perf_counter() - begin
    seconds = time.perf_counter() - begin
    return {"ttft_s": ttft_s, "prompt_tokens_per_s": sum(map(len, prompts)) / seconds}


def time_decoding(loaded: LoadedModel, prompts: list[list[int]], generate: int) -> Figures:
    """Decode after prompts; while all sequences run, if there is such a time, the tokens count."""
    begin = time.perf_counter()
    _submit(loaded, prompts, generate)
    waiting = set(range(len(prompts)))
    num_finished = num_tokens = num_all = num_together = 0
    together_s = 0.0
    while loaded.engine.has_work:
        is_complete = not waiting and not num_finished
        step_begin = time.perf_counter()
        outputs = loaded.engine.step()
        num_tokens = sum(len(output.token_ids) for output in outputs)
        num_all += num_tokens
        if is_complete:
            together_s += time.perf_counter() - step_begin
            num_together += num_tokens
        waiting -= {output.index for output in outputs}
        num_finished += sum(output.finish_reason is not None for output in outputs)
    if not num_together:  # the first was done before the last had begun
        num_together, together_s = num_all, time.perf_counter() - begin
    return {"decode_tokens_per_s": num_together / together_s}


def _submit(loaded: LoadedModel, prompts: list[list[int]], max_tokens: int) -> None:
    from outrider.engine.protocol import Submit
    from outrider.types import SamplingParams

    sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens, ignore_eos=True)
    loaded.engine.submit(Submit("bench", tuple(map(tuple, prompts)), sampling))
