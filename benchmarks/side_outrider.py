"""Our side of a benchmark: the whole engine, with scheduler, sampler and detokenizer.

First message: {"settings"}; then pieces of work, {"kind": "prompt" or "decode", "num_seqs",
"prompt_tokens", "output_tokens", "seed"}, each answered with tokens per second and, of a model with
experts, how the rows spread over them. See sides.py.
"""

from __future__ import annotations

from expert_spread import RoutingTap, describe, sum_steps
from sides import Message, answer_all, random_prompts

import outrider
from outrider import config, kernels
from outrider.cli_bench import run_prompts
from outrider.engine.loader import load_engine


class OurSide:
    """An engine that is loaded by the first message."""

    def answer(self, message: Message) -> Message:
        """Load the engine or run a piece of work."""
        if "settings" in message:
            return self._open(message["settings"])
        prompts = random_prompts(message, self._loaded.config.vocab_size)
        with RoutingTap() as tap:
            measured = run_prompts(self._loaded, prompts, message["output_tokens"] + 1)
        calls = tap.calls
        if message["kind"] == "decode":
            calls = [counts for counts in calls if sum(counts) == message["num_seqs"]]
        elif calls:
            calls = sum_steps(calls, len(self._loaded.config.moe_layers))
        answer: Message = {"tokens_per_s": measured[f"{message['kind']}_tokens_per_s"]}
        return answer | ({"experts": describe(calls)} if calls else {})

    def _open(self, chosen: Message) -> Message:
        settings = config.load(chosen)
        self._loaded = load_engine(settings.engine)
        isa = settings.engine.isa
        return {
            "name": f"Outrider {outrider.__version__}",
            "isa": kernels.supported_isas()[0] if isa == "auto" else isa,
        }


if __name__ == "__main__":
    answer_all(OurSide().answer)
