"""What transformers computes for a Hugging Face folder of a Llama 4, without a line of Outrider."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from golden.oracle import Oracle

# transformers 5.23 breaks on `attention_chunk_size: null`; longer than any test is the same thing.
NO_CHUNKS = 1 << 20


class Llama4Oracle(Oracle):
    """One model as transformers runs it in float32."""

    def greedy(self, token_ids: list[int], max_tokens: int) -> list[NDArray[np.float32]]:
        """Continue with the best token each time; give the logits [V] of every step.

        Every step runs the whole sequence: the cache of transformers 5.23 fails for chunks of one.
        """
        rows: list[NDArray[np.float32]] = []
        for _ in range(max_tokens):
            best = [int(row.argmax()) for row in rows]
            rows.append(self.logits(token_ids + best)[-1])
        return rows

    @torch.inference_mode()
    def hidden_states(self, token_ids: list[int]) -> list[NDArray[np.float32]]:
        """Give the residual stream [T, C] before the first layer and after every one."""
        states: list[NDArray[np.float32]] = []

        def keep(_module: object, _arguments: object, output: object) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            assert isinstance(hidden, torch.Tensor)
            states.append(hidden.reshape(-1, hidden.shape[-1]).numpy().copy())

        modules = self.model.modules()
        text = next(m for m in modules if isinstance(m, transformers.Llama4TextModel))
        hooks = [module.register_forward_hook(keep) for module in (text.embed_tokens, *text.layers)]
        self.logits(token_ids)
        for hook in hooks:
            hook.remove()
        return states


def load_llama4(folder: Path, attention: str = "eager") -> Llama4Oracle:
    """Load a folder written by `tiny_llama4.write_hf`, or any other."""
    fields = json.loads((folder / "config.json").read_text("utf-8"))
    config = transformers.AutoConfig.from_pretrained(folder)
    text = config.get_text_config()
    if text.attention_chunk_size is None:
        text.attention_chunk_size = NO_CHUNKS
    model_class = getattr(transformers, fields["architectures"][0])
    model = model_class.from_pretrained(
        folder, config=config, dtype=torch.float32, attn_implementation=attention
    )
    return Llama4Oracle(model)
