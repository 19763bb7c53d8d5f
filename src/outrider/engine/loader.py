"""From settings to an engine that answers: find the model, pack it if needed, map it, size it.

This is where checkpoints, model, text and engine meet; nothing else wires them together. Loading
raises `ConfigError` for anything the operator has to change.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from outrider import kernels
from outrider.checkpoints.packed import PackedModel, ensure_packed
from outrider.checkpoints.source import no_progress
from outrider.checkpoints.store import Store
from outrider.config import EngineConfig
from outrider.engine.engine import Engine
from outrider.engine.memory import plan_kv
from outrider.engine.runner import ModelRunner
from outrider.errors import ConfigError
from outrider.kernels.formats import Format
from outrider.machine import available_memory_bytes, num_cores, trim_heap
from outrider.model.config import ModelConfig, VisionConfig
from outrider.model.decoder import Decoder
from outrider.model.vision import VisionTower
from outrider.text.chat import ChatFormat, chat_format, stop_token_ids
from outrider.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class LoadedModel:
    """Everything that one model needs to answer."""

    engine: Engine
    runner: ModelRunner
    tokenizer: Tokenizer | None  # None: the model came without one and takes token ids only
    chat_format: ChatFormat
    config: ModelConfig
    generation: dict[str, float]  # the model's own sampling defaults
    context: kernels.Context

    @property
    def vision(self) -> VisionConfig | None:
        """Sizes of its image tower; None: it takes no images."""
        return self.config.vision


class PackedTensors:
    """The weights of a packed model as kernels take them, without a copy."""

    def __init__(self, packed: PackedModel) -> None:
        self._packed = packed

    def weight(self, name: str) -> kernels.Weight:
        """Give a matrix by its canonical name."""
        tensor = self._packed.tensors[name]
        rows, cols = tensor.shape
        assert tensor.format is not None, name
        return kernels.Weight(int(Format(tensor.format)), rows, cols, tensor.data)

    def vector(self, name: str) -> NDArray[np.float32]:
        """Give a norm's gain [C] by its canonical name."""
        return self._packed.tensors[name].vector()

    def experts(self, name: str) -> kernels.Experts:
        """Give the matrices of all experts by their canonical name."""
        tensor = self._packed.tensors[name]
        num_experts, rows, cols = tensor.shape
        assert tensor.format is not None, name
        return kernels.Experts(int(Format(tensor.format)), num_experts, rows, cols, tensor.data)

    def matrix(self, name: str) -> NDArray[np.float32]:
        """Give a small matrix [N, K] as plain values, unpacked."""
        return self._packed.tensors[name].values()


def load_engine(config: EngineConfig) -> LoadedModel:
    """Load `config.model`, which has to be pulled or be a path; packs its weights if needed."""
    home = Path(config.home).expanduser()
    source = Store(home).resolve(config.model)
    path = ensure_packed(source, config.weights, home, no_progress, Tokenizer)
    packed = PackedModel.open(path)
    model = packed.config
    plan = plan_kv(config, model, packed.nbytes, available_memory_bytes())
    tensors, context = PackedTensors(packed), make_context(config)
    runner = ModelRunner(
        Decoder(model, tensors, context),
        num_blocks=plan.num_blocks,
        max_model_len=plan.max_model_len,
        kv=plan.dtype,
        tower=None if model.vision is None else VisionTower(model, tensors, context),
    )
    tokenizer = Tokenizer(packed.tokenizer_json) if packed.tokenizer_json else None
    chat = chat_format(packed.chat_format, packed.default_system)
    trim_heap()
    eos_token_ids = set(model.eos_token_ids)
    if tokenizer is not None:
        # What ends a turn in the chat format ends an answer, even if the file names fewer tokens.
        stop_ids = stop_token_ids(chat, tokenizer)
        eos_token_ids.update(stop for stop in stop_ids if stop < model.vocab_size)
    return LoadedModel(
        engine=Engine(runner, tokenizer, config, sorted(eos_token_ids), time.perf_counter, context),
        runner=runner,
        tokenizer=tokenizer,
        chat_format=chat,
        config=model,
        generation=packed.generation,
        context=context,
    )


def make_context(config: EngineConfig) -> kernels.Context:
    """Start the compute threads with the instruction set the settings ask for."""
    if config.isa != "auto" and config.isa not in kernels.supported_isas():
        raise ConfigError(
            f"isa is {config.isa!r} but this machine has {', '.join(kernels.supported_isas())}; "
            "choose one of them or auto"
        )
    return kernels.Context(config.threads or num_cores(), config.isa, config.activations)
