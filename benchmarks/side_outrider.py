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
from outrider.cli_bench_rounds import time_decoding, time_prompts
from outrider.engine.loader import load_engine

OTHER_SEED = 1 << 30


class OurSide:
    """An engine that is loaded by the first message."""

    def __init__(self) -> None:
        self._spreads: dict[tuple[object, ...], dict[str, float]] = {}

    def answer(self, message: Message) -> Message:
        """Load the engine or run a piece of work."""
        if "settings" in message:
            return self._open(message["settings"])
        measured = self._run(message)
        answer: Message = {"tokens_per_s": measured[f"{message['kind']}_tokens_per_s"]}
        return answer | (
            {"experts": self._spread(message)} if self._loaded.config.moe_layers else {}
        )

    def _run(self, work: Message) -> dict[str, float]:
        prompts = random_prompts(work, self._loaded.config.vocab_size)
        if work["kind"] == "prompt":
            return time_prompts(self._loaded, prompts)
        # The first token comes with the prompt.
        return time_decoding(self._loaded, prompts, work["output_tokens"] + 1)

    def _spread(self, work: Message) -> dict[str, float]:
        """Observe the experts once per kind of work, beside what is measured."""
        key = tuple(value for name, value in work.items() if name != "seed")
        if key not in self._spreads:
            is_prompt = work["kind"] == "prompt"
            # Other tokens for a prompt, else the prefix cache answers; the same ones for a decode.
            with RoutingTap() as tap:
                self._run({**work, "seed": work["seed"] + OTHER_SEED * is_prompt})
            steps = [counts for counts in tap.calls if is_prompt or sum(counts) == work["num_seqs"]]
            if is_prompt:
                steps = sum_steps(steps, len(self._loaded.config.moe_layers))
            self._spreads[key] = describe(steps)
        return self._spreads[key]

    def _open(self, chosen: Message) -> Message:
        # Guesses depend on the text; speculation.py measures them.
        settings = config.load({**chosen, "speculation": "off"})
        self._loaded = load_engine(settings.engine)
        isa = settings.engine.isa
        return {
            "name": f"Outrider {outrider.__version__}",
            "isa": kernels.supported_isas()[0] if isa == "auto" else isa,
        }


if __name__ == "__main__":
    answer_all(OurSide().answer)
